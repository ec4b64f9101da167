"""A small, true PDF for any number: one page, the number on it, and a few kilobytes that differ from all others.

    pdf_of(12)                  # bytes; always the same for 12

Cutting and swapping it is left to `files`.
"""

from __future__ import annotations

import random

PADDING_BYTES = (2_000, 40_000)


def pdf_of(number: int) -> bytes:
    """One page saying `number`, 2 to 40 kB long."""
    noise = random.Random(number)
    text = f"BT /F1 24 Tf 72 720 Td (Artifact {number}) Tj ET".encode()
    padding = noise.randbytes(noise.randint(*PADDING_BYTES) // 2).hex().encode()
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        _stream(text),
        _stream(padding),
    )
    body, offsets = b"%PDF-1.7\n", []
    for position, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%b\nendobj\n" % (position, content)
    xref = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(body))
    return body + b"xref\n0 %d\n0000000000 65535 f \n%b%b" % (len(objects) + 1, xref, trailer)


def _stream(data: bytes) -> bytes:
    return b"<< /Length %d >>\nstream\n%b\nendstream" % (len(data), data)
