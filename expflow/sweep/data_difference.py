"""What is different about data that results were made on: classes, sizes of splits, fields, or content."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from expflow.data.prepare.prepared import PreparedData, described_key
from expflow.data.shards.manifest import FIRST_READING
from expflow.data.sources.listing import READING

_MOST_NAMED = 5


def data_difference(recorded: Mapping[str, Any], data: PreparedData) -> str:
    """In words, how data are read now that results were made on; empty where they are the same samples.

    Args:
        recorded: What the ledger's header holds of the data.
        data: The same source's data now.
    """
    key, source = recorded.get("key"), recorded.get("source")
    changes = "; ".join(_changes(recorded.get("spec") or {}, data))
    if key != data.key:
        if key not in _keys_by_other_rules(data):
            return ""  # the file itself says that they are other data
        keys = f"its data key was {key} and is {data.key}"
        return f"{source} is read by other rules now: {changes or 'its samples are the same'} ({keys})"
    if recorded.get("manifest", data.manifest.content) == data.manifest.content:
        return ""
    hashes = f"the manifest was {recorded['manifest'][:12]} and is {data.manifest.content[:12]}"
    if changes:
        return f"{source} is read differently now: {changes} ({hashes})"
    return f"{source} has as many samples of the same classes as then, with other content: {hashes}"


def _keys_by_other_rules(data: PreparedData) -> set[str]:
    """The keys that the same source has where its files are read by earlier rules, or by later ones than now."""
    source = {key: value for key, value in data.manifest.source.items() if key != "reading"}
    later = range(FIRST_READING + 1, READING + 1)
    return {described_key(source), *(described_key({**source, "reading": number}) for number in later)}


def _changes(before: Mapping[str, Any], data: PreparedData) -> Iterator[str]:
    now = data.spec.to_json()
    old, new = [str(name) for name in before.get("classes", ())], list(data.spec.classes)
    if gone := [name for name in old if name not in set(new)]:
        yield f"classes that are gone: {_listed(gone)}"
    if added := [name for name in new if name not in set(old)]:
        yield f"classes that are new: {_listed(added)}"
    samples: Mapping[str, int] = before.get("samples", {})
    for split in dict.fromkeys((*samples, *now["samples"])):
        if (then := samples.get(split, 0)) != (count := now["samples"].get(split, 0)):
            yield f"{split} had {then:,} samples and has {count:,}"
    fields: Mapping[str, Any] = before.get("fields", {})
    for name in dict.fromkeys((*fields, *now["fields"])):
        if fields.get(name) != now["fields"].get(name):
            yield f"the field {name} was {_field(fields.get(name))} and is {_field(now['fields'].get(name))}"


def _field(field: Mapping[str, Any] | None) -> str:
    return f"{list(field['shape'])} {field['dtype']}" if field else "not there"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
