"""Training and meta steps compiled whole, derivatives included, beside a training that goes on eagerly until they are ready."""
