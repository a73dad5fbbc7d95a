"""`python -m engine.bench`: the benchmark where no terminal app is installed; `mmkd bench` does the same."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from engine.bench.cases import CASES, LEAST_ROUNDS, SUBJECTS, plan
from engine.errors import UserError


def main(arguments: Sequence[str]) -> int:
    """JSON, a line a case, on stdout if asked for; the rest on stderr. 0 done, 2 a mistake in what was asked, 130 interrupted."""
    parser = argparse.ArgumentParser("python -m engine.bench", description="Time MMKD beside the naive form and the limits.")
    parser.add_argument("--case", action="append", default=[], help=f"{', '.join(CASES)} or all; may be given again")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--rounds", type=int, default=LEAST_ROUNDS, help="samples to a median")
    parser.add_argument("--only", action="append", default=[], help=f"some of {', '.join(SUBJECTS)}, with commas")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--scale", action="store_true", help="also grow the teachers, the batch and the classes")
    parser.add_argument("--json", action="store_true", help="a JSON object a case on stdout")
    chosen = parser.parse_args(arguments)
    try:
        asked = plan(
            *(chosen.case, chosen.only),
            device=chosen.device,
            rounds=chosen.rounds,
            threads=chosen.threads,
            scale=chosen.scale,
        )
        from engine.bench.bench import bench
        from engine.bench.measure import Doing
        from engine.bench.report import Report, as_text, growth

        reports: list[Report] = []
        stages: list[str] = []

        def tell(doing: Doing) -> None:
            if doing.stage not in stages[-1:]:
                stages.append(doing.stage)
                _say(doing.stage)

        for found in bench(asked, tell):
            reports.append(found)
            _say(*as_text(found))
            if chosen.json:
                print(json.dumps(found), flush=True)  # noqa: T201
    except UserError as error:
        _say(str(error))
        return 2
    _say(*growth(reports))
    return 130 if reports[-1]["interrupted"] else 0


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
