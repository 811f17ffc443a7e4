"""Stands in for the codec `idna` on the card: host names in ASCII. The real one needs 1 MB of tables.

Used by `socket` and `ssl` for every host name. Left out: names with other letters, which are refused as any bad name
is; write them as the resolver has them, `xn--…`.
"""

import codecs


def _encode(name, errors="strict"):
    try:
        encoded = name.encode("ascii")
    except UnicodeEncodeError:
        raise UnicodeError("only ASCII host names are known here: write it as xn--...") from None
    labels = encoded.split(b".")
    # The last one is empty where the name ends with a dot.
    if any(not label for label in labels[:-1]) or any(len(label) > 63 for label in labels):
        raise UnicodeError("label empty or too long")
    return encoded, len(name)


def _decode(encoded, errors="strict"):
    return bytes(encoded).decode("ascii"), len(encoded)


def getregentry():
    return codecs.CodecInfo(name="idna", encode=_encode, decode=_decode)
