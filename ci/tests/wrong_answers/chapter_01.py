"""Wrong answers to the exercises of chapter 01, each with a part of the sentence it must get."""

from __future__ import annotations


def parse(text, separator="\t", integer=lambda field: int(field) if field else None, token=str):
    label, *fields = text.split(separator)
    return label == "1", [integer(field) for field in fields[:13]], [token(field) for field in fields[13:]]


def ends(line):
    return line.decode().rstrip("\r\n")


def stripped(line):
    return parse(line.decode().strip())


def split_at_any_space(line):
    return parse(ends(line), separator=None)


def zero_is_missing(line):
    return parse(ends(line), integer=lambda field: int(field or 0) or None)


def missing_is_zero(line):
    return parse(ends(line), integer=lambda field: int(field or 0))


def carriage_return_kept(line):
    return parse(line.decode().removesuffix("\n"))


def newline_kept(line):
    return parse(line.decode())


def leading_zeros_lost(line):
    return parse(ends(line), token=lambda field: field.lstrip("0"))


def bytes_kept(line):
    label, integers, tokens = parse(ends(line))
    return label, integers, [token.encode() for token in tokens]


def label_as_text(line):
    label, integers, tokens = parse(ends(line))
    return str(int(label)), integers, tokens


def floats(line):
    return parse(ends(line), integer=lambda field: float(field) if field else None)


def one_list(line):
    label, integers, tokens = parse(ends(line))
    return [label, *integers, *tokens]


WRONG = {
    "1.1": (
        (stripped, "expected 13 integers and 26 tokens, got 13 and 24"),
        (split_at_any_space, "expected 13 integers and 26 tokens, got 13 and 23"),
        (zero_is_missing, "I2: expected 0, got None"),
        (missing_is_zero, "I1: expected None, got 0"),
        (carriage_return_kept, "in a line that ends in \\r\\n, C26: expected '26ab001a', got '26ab001a\\r'"),
        (newline_kept, "C26: expected '26ab001a', got '26ab001a\\n'"),
        (leading_zeros_lost, "C1: expected '01ab0001', got '1ab0001'"),
        (bytes_kept, "C1: expected '01ab0001', got b'01ab0001'"),
        (label_as_text, "the label must be True, a truth value: got '1'"),
        (floats, "I1: expected 5, got 5.0"),
        (one_list, "return three things"),
    ),
}
