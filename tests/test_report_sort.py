"""The script that sorts a report's tables, in a made table; skipped where there is no Node.js."""

import json
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
SKIP = 77

# As much of a document as the script uses: a table of one head row, or of two where a head spans two columns.
DOCUMENT = """
const TEXT = (text) => ({textContent: text});
function cell(tag, text, more) {
  return Object.assign({tagName: tag, textContent: text, firstChild: TEXT(text), dataset: {}, colSpan: 1, rowSpan: 1,
    attributes: {}, listeners: {}, classList: {add() {}}, querySelector() { return null; },
    getAttribute(name) { return name in this.attributes ? this.attributes[name] : null; },
    setAttribute(name, value) { this.attributes[name] = value; }, removeAttribute(name) { delete this.attributes[name]; },
    addEventListener(name, run) { this.listeners[name] = run; }}, more);
}
function made(rows) {
  const heads = [[cell("TH", "Run", {rowSpan: 2}), cell("TH", "ECE", {colSpan: 2}), cell("TH", "Time", {rowSpan: 2})],
                 [cell("TH", "before"), cell("TH", "after")]];
  const body = {rows: [], appendChild(row) { this.rows.splice(this.rows.indexOf(row), 1); this.rows.push(row); }};
  for (let i = 0; i !== rows; i += 1)
    body.rows.push({cells: i === 3 ? [cell("TH", "run3"), cell("TD", "failed", {colSpan: 3})] :
      [cell("TH", "run" + i), cell("TD", (i * 7 % 10) + ".5"), cell("TD", i % 2 ? "\\u2013" : String(100 - i)),
       cell("TD", i + " min", {dataset: {value: String(1000 - i)}})]});
  return {tHead: {rows: heads.map((cells) => ({cells}))}, tBodies: [body]};
}
const large = made(25), small = made(20);
globalThis.document = {querySelectorAll: () => [large, small]};
SCRIPT
const names = (table) => table.tBodies[0].rows.map((row) => row.cells[0].textContent);
const [first, second] = large.tHead.rows;
const result = {};
const click = (key, head) => { head.listeners.click(); result[key] = names(large); result[key + " aria"] = head.attributes["aria-sort"]; };
click("names", first.cells[0]);
click("names down", first.cells[0]);
click("before", second.cells[0]);
click("after", second.cells[1]);
click("after down", second.cells[1]);
click("time", first.cells[2]);
result.spanning = Object.keys(first.cells[1].listeners).length;
result.small = Object.keys(small.tHead.rows[0].cells[0].listeners).length;
console.log(JSON.stringify(result));
"""


def script():
    with open(os.path.join(HERE, "..", "launch", "report", "report_sort.c"), encoding="utf-8") as file:
        literals = re.findall(r'(?m)^    ("(?:[^"\\]|\\.)*");?$', file.read())
    return "".join(json.loads(re.sub(r"\\\\u", r"\\\\u", literal)) for literal in literals)


def main():
    node = shutil.which("node")
    if node is None:
        print("skipped: there is no Node.js")
        return SKIP
    text = script()
    assert text.count("\n") > 40 and "<" not in text and "&" not in text, text
    ran = subprocess.run([node, "-e", DOCUMENT.replace("SCRIPT", text)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    rows = range(25)
    complete = [i for i in rows if i != 3]
    run = lambda order: [f"run{i}" for i in order]
    assert found["names"] == run(rows), found["names"]
    assert found["names down"] == run(reversed(rows)), found["names down"]
    assert found["names aria"] == "ascending" and found["names down aria"] == "descending"
    place = {i: 24 - i for i in rows}  # equal values stay as they were: names down
    # Numbers, then texts ("failed").
    assert found["before"] == run(sorted(complete, key=lambda i: (i * 7 % 10, place[i])) + [3]), found["before"]
    # Without a value last, in both directions.
    before = [int(name[3:]) for name in found["before"]]
    place = {i: n for n, i in enumerate(before)}
    missing = sorted((i for i in rows if i % 2), key=place.get)
    even = [i for i in rows if i % 2 == 0]
    assert found["after"] == run(sorted(even, key=lambda i: 100 - i) + missing), found["after"]
    assert found["after down"] == run(even + missing), found["after down"]
    assert found["time"] == run(sorted(complete, key=lambda i: 1000 - i) + [3]), found["time"]
    assert found["spanning"] == 0 and found["small"] == 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
