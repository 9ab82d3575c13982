"""Protobuf's wire format by hand, for messages that no generated code would write."""


def field(number: int, data: bytes) -> bytes:
    """A field of bytes, of a string or of a message; `number` is at most 15."""
    size, length = len(data), b""
    while size >= 0x80:
        length += bytes((size & 0x7F | 0x80,))
        size >>= 7
    return bytes((number << 3 | 2,)) + length + bytes((size,)) + data
