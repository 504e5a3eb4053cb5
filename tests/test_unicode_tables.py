"""nlp/bleu/unicode_tables.h is what nlp/bleu/make_unicode.py writes, and its classes are those of Python's unicodedata."""

import os
import re
import sys
import unicodedata
import unittest

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "nlp", "bleu")
sys.path.insert(0, SOURCE)
import make_unicode as make  # pylint: disable=wrong-import-position


class Tables(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with open(f"{SOURCE}/unicode_tables.h", encoding="utf-8") as file:
            text = file.read()
        cls.table = {name: [int(number, 0) for number in numbers.replace("\n", " ").split(",")]
                     for name, numbers in re.findall(r"static const \w+ (\w+)\[\] = \{(.*?)\};", text, re.DOTALL)}
        cls.version = re.search(r"\(Unicode ([\d.]+)\)", text).group(1)

    def test_lower_case(self):
        self.assertEqual(self.table["cased"], make.pairs(make.is_cased))
        self.assertEqual(self.table["ignorable"], make.pairs(make.is_ignorable))
        self.assertEqual(self.table["lower"], [number for row in make.lower_ranges() for number in row])

    def test_classes(self):
        """The package regex may know later characters; those of this Python have their class."""
        for name, letter in (("numbers", "N"), ("punctuation", "P"), ("symbols", "S")):
            ends = self.table[name]
            found = {code for first, last in zip(ends[0::2], ends[1::2], strict=True) for code in range(first, last + 1)}
            for code in make.CODES:
                category = unicodedata.category(chr(code))
                if category != "Cn":
                    self.assertEqual(code in found, category[0] == letter, f"{name}: U+{code:04X}")


if __name__ == "__main__":
    Tables.setUpClass()
    if Tables.version != unicodedata.unidata_version:
        print(f"this Python has Unicode {unicodedata.unidata_version}, the tables {Tables.version}")
        sys.exit(77)
    unittest.main()
