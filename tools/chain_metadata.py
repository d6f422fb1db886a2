"""Rewrites a runtime's metadata of version 16 as versions 15 and 14, which the Python SDKs read.

Nothing is invented: every type, call, storage item and runtime API keeps its bytes. What the newer
version adds (deprecation notes, associated types, view functions) is left out, and the extrinsic's
type, which it no longer has, is put back from the parts that it has.
"""


class Reader:
    """SCALE, as far as metadata needs it."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        piece = self.data[self.at : self.at + count]
        assert len(piece) == count, "the metadata ends early"
        self.at += count
        return piece

    def byte(self):
        return self.take(1)[0]

    def compact(self):
        mode = self.data[self.at] & 3
        if mode == 3:
            raise ValueError("a number too big for metadata")
        return int.from_bytes(self.take((1, 2, 4)[mode]), "little") >> 2

    def text(self):
        return self.take(self.compact()).decode()

    def list(self, item):
        return [item() for _ in range(self.compact())]

    def option(self, item):
        return item() if self.byte() else None

    def span(self, *items):
        """The bytes over which these are read."""
        start = self.at
        for item in items:
            item()
        return self.data[start : self.at]


def compact(number):
    if number < 1 << 6:
        return bytes([number << 2])
    if number < 1 << 14:
        return (number << 2 | 1).to_bytes(2, "little")
    return (number << 2 | 2).to_bytes(4, "little")


def text(value):
    raw = value.encode()
    return compact(len(raw)) + raw


def listed(items):
    return compact(len(items)) + b"".join(items)


def option(value):
    return b"\0" if value is None else b"\1" + value


class Metadata:
    """Metadata of version 16, each part as the bytes that the older versions want."""

    def __init__(self, data):
        self.r = r = Reader(data)
        assert r.take(5) == b"meta\x10", "not metadata of version 16"
        self.types = r.list(self._type)
        self.pallets = r.list(self._pallet)
        self._extrinsic()
        self.apis = r.list(self._api)
        self.outer = r.span(r.compact, r.compact, r.compact)
        self.custom = r.span(lambda: r.list(lambda: (r.text(), r.compact(), r.take(r.compact()))))
        assert r.at == len(data), "something is left over"

    def _docs(self):
        return self.r.span(lambda: self.r.list(self.r.text))

    def _fields(self):
        r = self.r
        r.list(lambda: (r.option(r.text), r.compact(), r.option(r.text), r.list(r.text)))

    def _type(self):
        r = self.r

        def definition():
            kind = r.byte()
            if kind == 0:
                self._fields()
            elif kind == 1:
                r.list(lambda: (r.text(), self._fields(), r.byte(), r.list(r.text)))
            elif kind in (2, 6):
                r.compact()
            elif kind == 3:
                r.take(4), r.compact()
            elif kind == 4:
                r.list(r.compact)
            elif kind == 5:
                r.byte()
            elif kind == 7:
                r.compact(), r.compact()
            else:
                raise ValueError(f"type definition {kind}")

        params = lambda: r.list(lambda: (r.text(), r.option(r.compact)))
        return r.span(r.compact, lambda: r.list(r.text), params, definition, self._docs)

    def _deprecation(self):
        r = self.r
        if r.byte() == 2:
            r.text(), r.option(r.text)

    def _enum(self):
        """An enum's type, with which of its variants are deprecated left out."""
        r = self.r
        ty = r.span(r.compact)
        r.list(lambda: (r.byte(), self._deprecation()))
        return ty

    def _storage(self):
        r = self.r

        def entry():
            head = r.span(r.text, r.byte)
            if self.r.data[r.at] == 0:
                ty = r.span(r.byte, r.compact)
            else:
                ty = r.span(r.byte, lambda: r.list(r.byte), r.compact, r.compact)
            rest = r.span(lambda: r.take(r.compact())) + self._docs()
            self._deprecation()
            return head + ty + rest

        return r.span(r.text) + listed(r.list(entry))

    def _pallet(self):
        r = self.r
        name = r.text()
        storage = r.option(self._storage)
        calls, event = r.option(self._enum), r.option(self._enum)
        found = {}

        def constant():
            key = r.text()
            ty, value = r.span(r.compact), r.take(r.compact())
            found[key] = value
            whole = text(key) + ty + compact(len(value)) + value + self._docs()
            self._deprecation()
            return whole

        constants = r.list(constant)
        error = r.option(self._enum)
        r.list(lambda: (r.text(), r.compact(), self._docs()))
        function = lambda: (
            r.take(32), r.text(), r.list(lambda: (r.text(), r.compact())), r.compact(),
            self._docs(), self._deprecation(),
        )
        r.list(function)
        index = r.take(1)
        docs = self._docs()
        self._deprecation()
        parts = [text(name), option(storage), option(calls), option(event), listed(constants)]
        self.constants = {**getattr(self, "constants", {}), name: found}
        return b"".join([*parts, option(error), index]), docs

    def _extrinsic(self):
        r = self.r
        self.versions = r.list(r.byte)
        self.address, self.call, self.signature = r.compact(), r.compact(), r.compact()
        by_version = dict(r.list(lambda: (r.byte(), r.list(r.compact))))
        extensions = r.list(lambda: r.span(r.text, r.compact, r.compact))
        self.extensions = [extensions[place] for place in by_version[0]]

    def _api(self):
        r = self.r

        def method():
            whole = r.span(r.text, lambda: r.list(lambda: (r.text(), r.compact())), r.compact)
            whole += self._docs()
            self._deprecation()
            return whole

        name = r.span(r.text)
        methods, docs = listed(r.list(method)), self._docs()
        r.compact()
        self._deprecation()
        return name + methods + docs

    def _types_with_extrinsic(self):
        """The types, and after them the extra of the extrinsic and the extrinsic."""
        extra, extrinsic = len(self.types), len(self.types) + 1
        extras = []
        for extension in self.extensions:
            r = Reader(extension)
            r.text()
            extras.append(r.span(r.compact))
        nothing = listed([])
        extra_type = compact(extra) + nothing + nothing + b"\4" + listed(extras) + nothing
        path = ["sp_runtime", "generic", "unchecked_extrinsic", "UncheckedExtrinsic"]
        ids = [self.address, self.call, self.signature, extra]
        params = [
            text(name) + option(compact(ty))
            for name, ty in zip(("Address", "Call", "Signature", "Extra"), ids)
        ]
        extrinsic_type = (
            compact(extrinsic) + listed([text(part) for part in path]) + listed(params)
            + b"\0" + nothing + nothing
        )
        return listed([*self.types, extra_type, extrinsic_type]), extra, extrinsic

    def v15(self):
        types, extra, extrinsic = self._types_with_extrinsic()
        ids = [compact(ty) for ty in (self.address, self.call, self.signature, extra)]
        assert 4 in self.versions
        return b"".join([
            b"meta\x0f", types, listed([pallet + docs for pallet, docs in self.pallets]),
            b"\4", *ids, listed(self.extensions), compact(extrinsic), listed(self.apis),
            self.outer, self.custom,
        ])

    def v14(self):
        types, _, extrinsic = self._types_with_extrinsic()
        return b"".join([
            b"meta\x0e", types, listed([pallet for pallet, _ in self.pallets]),
            compact(extrinsic), b"\4", listed(self.extensions), compact(extrinsic),
        ])
