"""A strict reader of IMAP data, so that tests see what a client would see (RFC 3501 §9)."""

Value = bytes | None | int | list["Value"]


def read(data: bytes) -> Value:
    """One value: NIL, number, quoted string, literal or parenthesized list; AssertionError when it is none."""
    value, end = _value(data, 0)
    assert end == len(data), data[end : end + 80]
    return value


def _value(data: bytes, at: int) -> tuple[Value, int]:
    char = data[at : at + 1]
    if char == b"(":
        items: list[Value] = []
        at += 1
        while data[at : at + 1] != b")":
            if items and data[at : at + 1] == b" ":
                at += 1
            else:  # only lists may follow one another directly: addresses, bodies
                assert not items or data[at : at + 1] == b"(", data[at : at + 80]
            item, at = _value(data, at)
            items.append(item)
        return items, at + 1
    if char == b'"':
        text = bytearray()
        at += 1
        while (octet := data[at]) != 0x22:
            if octet == 0x5C:
                at += 1
                octet = data[at]
                assert octet in (0x22, 0x5C)
            assert 0 < octet < 0x80
            assert octet not in (10, 13)
            text.append(octet)
            at += 1
        return bytes(text), at + 1
    if char == b"{":
        end = data.index(b"}\r\n", at)
        length = int(data[at + 1 : end])
        start = end + 3
        assert len(data) >= start + length
        assert b"\0" not in data[start : start + length]
        return data[start : start + length], start + length
    if data[at : at + 3] == b"NIL":
        return None, at + 3
    end = at
    while data[end : end + 1].isdigit():
        end += 1
    assert end > at, data[at : at + 80]
    return int(data[at:end]), end


def check_body(value: Value, *, extended: bool) -> None:
    """`value` has the shape of BODYSTRUCTURE (or BODY, without extension data)."""
    assert isinstance(value, list)
    if isinstance(value[0], list):
        children = [item for item in value if isinstance(item, list)]
        count = next(index for index, item in enumerate(value) if not isinstance(item, list))
        for child in children[:count]:
            check_body(child, extended=extended)
        assert isinstance(value[count], bytes)
        assert len(value) == count + (5 if extended else 1)
        if extended:
            check_params(value[count + 1])
            check_tail(value[count + 2 :])
        return
    kind, subtype, params, content_id, description, encoding, size = value[:7]
    assert isinstance(kind, bytes)
    assert isinstance(subtype, bytes)
    check_params(params)
    for item in (content_id, description):
        assert item is None or isinstance(item, bytes)
    assert isinstance(encoding, bytes)
    assert isinstance(size, int)
    rest = value[7:]
    if kind == b"text":
        assert isinstance(rest[0], int)
        rest = rest[1:]
    elif (kind, subtype) == (b"message", b"rfc822"):
        check_envelope(rest[0])
        check_body(rest[1], extended=extended)
        assert isinstance(rest[2], int)
        rest = rest[3:]
    assert len(rest) == (4 if extended else 0)
    if extended:
        assert rest[0] is None or isinstance(rest[0], bytes)
        check_tail(rest[1:])


def check_params(value: Value) -> None:
    if value is not None:
        assert isinstance(value, list)
        assert value
        assert len(value) % 2 == 0
        assert all(isinstance(item, bytes) for item in value)


def check_tail(value: list[Value]) -> None:
    disposition, language, location = value
    if disposition is not None:
        assert isinstance(disposition, list)
        assert isinstance(disposition[0], bytes)
        check_params(disposition[1])
    assert language is None or isinstance(language, bytes) or all(isinstance(tag, bytes) for tag in language)  # type: ignore[union-attr]
    assert location is None or isinstance(location, bytes)


def check_envelope(value: Value) -> None:
    assert isinstance(value, list)
    assert len(value) == 10
    for index, item in enumerate(value):
        if 2 <= index <= 7:
            if item is None:
                continue
            assert isinstance(item, list)
            assert item
            for address in item:
                assert isinstance(address, list)
                assert len(address) == 4
                assert all(piece is None or isinstance(piece, bytes) for piece in address)
        else:
            assert item is None or isinstance(item, bytes)
