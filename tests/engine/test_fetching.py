"""Fetching: goes on where it broke off, believes no file without its checksum, and shows only what is whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support import fashion_files
from support import picture_sets as sets
from support.nfs import locks_of_ranges

from engine import catalog, fetching
from engine.data_files import find_files
from engine.dataset_facts import Archive
from engine.errors import UserError
from engine.fetching import Progress, download, fetch

CONTENT = bytes(range(256)) * 2000


def archive(url: str, data: bytes = CONTENT) -> Archive:
    return Archive("x.bin", f"{url}/x.bin", sets.md5(data))


def quiet(progress: Progress) -> None:
    pass


@pytest.fixture
def site(tmp_path: Path) -> Path:
    sets.put(tmp_path / "site", {"x.bin": CONTENT})
    return tmp_path / "site"


def test_a_broken_off_download_goes_on_where_it_was(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x.bin"
    monkeypatch.setattr(fetching, "TRIES", 1)
    with sets.served(site, monkeypatch, cut=(1000,)) as (url, handler):
        monkeypatch.setattr(fetching, "_transfer", _interrupting(fetching._transfer))
        with pytest.raises(KeyboardInterrupt):
            download(archive(url), target, quiet)
        assert not target.exists()
        assert (tmp_path / "x.bin.part").read_bytes() == CONTENT[:1000]
        monkeypatch.undo()
        monkeypatch.setattr(fetching, "SCHEMES", ("https", "http"))
        told: list[Progress] = []
        download(archive(url), target, told.append)
        assert handler.asked == [None, "bytes=1000-"]
    assert target.read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("x.bin")] == ["x.bin"]
    assert next((p.done, p.total) for p in told if p.what == "downloading") == (1000, len(CONTENT))


def _interrupting(real: Callable[..., None]) -> Callable[..., None]:
    """Ctrl-C as soon as the connection breaks."""

    def transfer(*arguments: object) -> None:
        try:
            real(*arguments)
        except Exception as error:
            raise KeyboardInterrupt from error

    return transfer


def test_a_flaky_connection_is_tried_again(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sets.served(site, monkeypatch, cut=(100, 100, 100, 100, 100, 100)) as (url, handler):
        download(archive(url), tmp_path / "x.bin", quiet)
        assert handler.asked == [None, *(f"bytes={k}00-" for k in range(1, 7))]
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


def test_another_file_under_the_same_address_comes_from_its_beginning(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets.put(tmp_path, {"x.bin.part": b"of the old one", "x.bin.part-of": b'"old"'})
    with sets.served(site, monkeypatch) as (url, handler):
        download(archive(url), tmp_path / "x.bin", quiet)
        assert handler.asked == ["bytes=14-"]
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("more", [0, 7])
def test_a_part_that_is_whole_or_too_long(more: int, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets.put(tmp_path, {"x.bin.part": CONTENT + bytes(more)})
    with sets.served(site, monkeypatch) as (url, _):
        download(archive(url), tmp_path / "x.bin", quiet)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sets.served(site, monkeypatch) as (url, _), pytest.raises(UserError, match="MD5") as caught:
        download(archive(url, b"other"), tmp_path / "x.bin", quiet)
    assert sets.md5(CONTENT) in str(caught.value)
    assert not list(tmp_path.glob("x.bin*"))


def test_what_the_server_has_not_is_told_at_once(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sets.served(site, monkeypatch) as (url, handler):
        monkeypatch.setattr(handler, "do_GET", lambda self: self.send_error(404))
        with pytest.raises(UserError, match="could not be downloaded") as caught:
            download(archive(url), tmp_path / "x.bin", quiet)
    assert str(tmp_path) in str(caught.value)


def test_two_fetches_do_not_write_the_same_part(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    with sets.served(site, monkeypatch) as (url, _), (tmp_path / "x.bin.part").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process"):
            download(archive(url), tmp_path / "x.bin", quiet)


@pytest.mark.parametrize("url", ["http://example.org/x", "file:///etc/passwd", "ftp://example.org/x"])
def test_only_https(url: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="over https alone"):
        download(Archive("x", url, None), tmp_path / "x", quiet)


def test_no_redirect_away_from_https(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def do_get(self: sets.RangeHandler) -> None:
        self.send_response(302)
        self.send_header("Location", "ftp://example.org/x")
        self.end_headers()

    with sets.served(site, monkeypatch) as (url, handler):
        monkeypatch.setattr(handler, "do_GET", do_get)
        with pytest.raises(UserError, match="is not fetched"):
            download(archive(url), tmp_path / "x.bin", quiet)


# -- whole data sets


def dogs() -> dict[str, bytes]:
    images, lists = sets.stanford_dogs()
    return {"images.tar": sets.tar(images), "lists.tar": sets.tar(lists)}


ARCHIVES: dict[str, Callable[[], dict[str, bytes]]] = {
    "fashion-mnist": fashion_files.archives,
    "cifar-100": lambda: {"cifar-100-python.tar.gz": sets.tar(sets.cifar100(), "w:gz")},
    "cifar-10": lambda: {"cifar-10-python.tar.gz": sets.tar(sets.cifar10(), "w:gz")},
    "stl-10": lambda: {"stl10_binary.tar.gz": sets.tar(sets.stl10(), "w:gz")},
    "tiny-imagenet": lambda: {"tiny-imagenet-200.zip": sets.zipped(sets.tiny_imagenet())},
    "stanford-dogs": dogs,
    "cub-200": lambda: {"CUB_200_2011.tgz": sets.tar(sets.cub200(), "w:gz")},
    "mit-67": lambda: {
        "indoorCVPR_09.tar": sets.tar({k: v for k, v in sets.mit67().items() if k.startswith("Images")}),
        **{k: v for k, v in sets.mit67().items() if not k.startswith("Images")},
    },
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_every_set_that_can_be_fetched_is_found_afterwards(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fashion_files.forget_system_package(monkeypatch)
    content = ARCHIVES[name]()
    sets.put(tmp_path / "site", content)
    with sets.served(tmp_path / "site", monkeypatch) as (url, _):
        sets.published_as(name, monkeypatch, content, url)
        folder = fetch(catalog.DATASETS[name], tmp_path / "root", quiet)
    found = find_files(catalog.DATASETS[name], tmp_path / "root")
    assert found is not None
    assert found.folder == folder == tmp_path / "root" / name
    assert not [
        path for path in folder.iterdir() if path.name.startswith(".") or path.suffix in (".part", ".tar", ".tgz", ".zip")
    ]


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_that_a_person_brought_are_unpacked_and_kept(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = ARCHIVES[name]()
    sets.published_as(name, monkeypatch, content)
    sets.put(tmp_path / name, content)
    assert fetch(catalog.DATASETS[name], tmp_path, quiet) == tmp_path / name
    assert find_files(catalog.DATASETS[name], tmp_path) is not None
    assert all((tmp_path / name / archive).is_file() for archive in content)


def test_what_is_unpacked_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = ARCHIVES["cub-200"]()
    sets.published_as("cub-200", monkeypatch, content)
    sets.put(tmp_path / "cub-200", content | {"CUB_200_2011/mine.txt": b"mine"})
    with pytest.raises(UserError, match="is in the way"):
        fetch(catalog.DATASETS["cub-200"], tmp_path, quiet)
    assert (tmp_path / "cub-200" / "CUB_200_2011" / "mine.txt").read_bytes() == b"mine"
    assert len(list((tmp_path / "cub-200").iterdir())) == 2


def test_what_a_killed_fetch_left_is_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = ARCHIVES["cub-200"]()
    sets.published_as("cub-200", monkeypatch, content)
    sets.put(tmp_path / "cub-200", content | {".unpacking-killed/CUB_200_2011/images.txt": b"half"})
    fetch(catalog.DATASETS["cub-200"], tmp_path, quiet)
    assert sorted(path.name for path in (tmp_path / "cub-200").iterdir()) == ["CUB_200_2011", "CUB_200_2011.tgz"]


@pytest.mark.parametrize("nfs", [False, True])
def test_two_fetches_do_not_unpack_the_same_set(nfs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = ARCHIVES["cub-200"]()
    sets.published_as("cub-200", monkeypatch, content)
    sets.put(tmp_path / "cub-200", content)
    if nfs:
        locks_of_ranges(monkeypatch)
    refusals: list[str] = []

    def fetch_too(progress: Progress) -> None:
        if progress.what == "unpacking" and not refusals:
            with pytest.raises(UserError) as caught:
                fetch(catalog.DATASETS["cub-200"], tmp_path, quiet)
            refusals.append(str(caught.value))

    fetch(catalog.DATASETS["cub-200"], tmp_path, fetch_too)
    assert refusals == ["cub-200 is being fetched by another process; wait for it, or end it"]
    assert sorted(path.name for path in (tmp_path / "cub-200").iterdir()) == ["CUB_200_2011", "CUB_200_2011.tgz"]


def test_a_full_disk_is_told_before_anything_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    facts = replace(catalog.DATASETS["cub-200"], unpacked_bytes=1 << 60)
    with pytest.raises(UserError, match="GB are free"):
        fetch(facts, tmp_path, quiet)
