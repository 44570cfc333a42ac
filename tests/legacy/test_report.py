"""What a copy tells, as JSON."""

import io
import json
from collections.abc import Iterator

from legacy.migration import CopyReport
from legacy.stores.parcels import Item


def test_items_are_written_one_by_one_however_many_they_are() -> None:
    report, out = CopyReport("here", "there", None, False), io.StringIO()
    written: list[int] = []

    def items() -> Iterator[Item]:
        for number in range(3):
            written.append(len(out.getvalue()))
            yield Item(f"{number}.json", None, "quarantined", ("invalid_json",))

    report.write_json_to(out, items())
    report.close()
    assert written[0] < written[1] < written[2], "each is written before the next one is made"
    assert [item["file"] for item in json.loads(out.getvalue())["items"]] == ["0.json", "1.json", "2.json"]


def test_a_report_of_nothing_is_json_too() -> None:
    report, out = CopyReport("here", "there", None, False), io.StringIO()
    report.write_json_to(out, report.items)
    report.close()
    assert json.loads(out.getvalue())["items"] == []
