"""Reading shards against their manifest: what differs from it is an error, never a silently shorter epoch."""

from __future__ import annotations

import hashlib
import io
import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from expflow.data.manifest import Manifest, Shard, how_to_rebuild, read_manifest
from expflow.errors import ShardCorrupt

Sample = tuple[str, dict[str, bytes]]
"""A sample's key, and the encoded bytes of each of its fields."""


def read_shard(root: Path, shard: Shard, fields: Mapping[str, str]) -> list[Sample]:
    """All samples of one shard, in order; ``fields`` maps a field to its extension.

    The whole file is read once and held against the manifest's size and sha256 before a single member is parsed.
    Raises ShardCorrupt, naming the shard, what was expected and what was found.
    """
    content = _content(root, shard)
    if problem := _differs(content, shard):
        raise ShardCorrupt(f"{root / shard.name}: {problem}; {how_to_rebuild(root)}")
    try:
        samples = list(_samples(content or b"", fields))
    except (tarfile.TarError, ValueError, OSError) as error:
        raise ShardCorrupt(f"{root / shard.name}: {error}; {how_to_rebuild(root)}") from error
    if len(samples) != shard.samples:
        raise ShardCorrupt(
            f"{root / shard.name}: expected {shard.samples} samples, found {len(samples)}; {how_to_rebuild(root)}"
        )
    return samples


def _content(root: Path, shard: Shard) -> bytes | None:
    try:
        return (root / shard.name).read_bytes()
    except OSError:
        return None


def _differs(content: bytes | None, shard: Shard) -> str:
    """How the content of a shard's file differs from what was written; "" where it does not."""
    if content is None:
        return f"expected {shard.bytes} bytes, found no readable file"
    if len(content) != shard.bytes:
        return f"expected {shard.bytes} bytes, found {len(content)}"
    found = hashlib.sha256(content).hexdigest()
    return "" if found == shard.sha256 else f"expected sha256 {shard.sha256}, found {found}"


def _samples(content: bytes, fields: Mapping[str, str]) -> Iterator[Sample]:
    """Group a tar's members by key. Raises ValueError at the first that no shard of ours would hold."""
    names = {extension: field for field, extension in fields.items()}
    current, values = "", dict[str, bytes]()
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        for member in tar:
            key, extension = split_member(member)
            if extension not in names:
                raise ValueError(f"member {member.name!r} is none of the fields {', '.join(sorted(names))}")
            if key != current:
                if current:
                    yield current, _complete(current, values, fields)
                current, values = key, {}
            if names[extension] in values:
                raise ValueError(f"member {member.name!r} is there twice")
            file = tar.extractfile(member)
            values[names[extension]] = file.read() if file else b""
    if current:
        yield current, _complete(current, values, fields)


def split_member(member: tarfile.TarInfo) -> tuple[str, str]:
    """A member's key and extension. Raises ValueError unless it is a regular file inside the shard's own tree."""
    name = member.name
    folder, base = posixpath.split(name)
    if not member.isreg() or name.startswith("/") or ".." in folder.split("/") or base.startswith("."):
        raise ValueError(f"member {name!r} is refused: only plain files with relative names are read")
    stem, _, extension = base.partition(".")
    return posixpath.join(folder, stem), extension


def _complete(key: str, values: dict[str, bytes], fields: Mapping[str, str]) -> dict[str, bytes]:
    if missing := [field for field in fields if field not in values]:
        raise ValueError(f"sample {key!r} lacks {', '.join(missing)}")
    return values


def missized(root: Path, manifest: Manifest) -> list[str]:
    """What is wrong with the shards' files by name and size alone: the quick look before they are used."""
    problems = []
    for shard in (shard for shards in manifest.splits.values() for shard in shards):
        try:
            found = (root / shard.name).stat().st_size
        except OSError:
            problems.append(f"{shard.name}: expected {shard.bytes} bytes, found no file")
            continue
        if found != shard.bytes:
            problems.append(f"{shard.name}: expected {shard.bytes} bytes, found {found}")
    return problems


def verify(root: Path) -> list[str]:
    """Read everything under ``root`` and say all that differs from the manifest; empty when nothing does.

    Raises DataMissing without a manifest and ShardCorrupt where the manifest itself is damaged.
    """
    manifest = read_manifest(root)
    shards = [shard for shards in manifest.splits.values() for shard in shards]
    by_hash = {shard.sha256: shard.name for shard in shards}
    problems = [problem for shard in shards if (problem := _problem(root, shard, manifest, by_hash))]
    known = {shard.name for shard in shards}
    extra = sorted(path.name for path in root.glob("*.tar") if path.name not in known)
    return problems + [f"{name}: not in the manifest" for name in extra]


def _problem(root: Path, shard: Shard, manifest: Manifest, by_hash: Mapping[str, str]) -> str:
    content = _content(root, shard)
    if problem := _differs(content, shard):
        other = by_hash.get(hashlib.sha256(content or b"").hexdigest())
        return f"{shard.name}: {problem}" + (f" (it holds {other})" if other else "")
    try:
        found = sum(1 for _ in _samples(content or b"", manifest.fields))
    except (tarfile.TarError, ValueError, OSError) as error:
        return f"{shard.name}: {error}"
    return "" if found == shard.samples else f"{shard.name}: expected {shard.samples} samples, found {found}"
