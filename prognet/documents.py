"""Dataclasses from the values of a JSON document: every field is there, is known, and is of the type that it says.

What JSON lacks is written as `prognet.files.to_json` writes it: a list for a tuple or an array, null for NaN, "inf" and
"-inf" for the infinities.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from prognet.errors import ConfigError, JSONValueError
from prognet.files import shown

T = TypeVar("T")
_INTEGERS, _EXACT = 2**63, 2**53  # what an array of integers, and a double, hold without loss


def record_from(
    kind: type[T], document: object, where: str = "", *, given: Mapping[str, Any] | None = None, partial: bool = False
) -> T:
    """A dataclass from a JSON object.

    Args:
        kind: the dataclass.
        document: the object.
        where: the place of the object in its file, for the message; the file itself is named by whoever reads it.
        given: fields that do not come from the document.
        partial: allows fields with a default to be absent, as in what people write.

    Raises:
        JSONValueError: when a field is missing, unknown or of another type; the message begins with its name.
        ConfigError: when a value is out of its range; the message begins with its name, too.
    """
    if not isinstance(document, Mapping):
        _refuse(where or "document", "an object", document)
    known, given = {item.name: item for item in fields(kind) if item.init}, given or {}  # type: ignore[arg-type]
    hints, values = get_type_hints(kind), dict(given)
    for key, value in document.items():
        if key not in known or key in given:
            _refuse(_below(where, key), f"one of the fields {sorted(known.keys() - given.keys())}", key)
        values[key] = value_from(hints[key], value, _below(where, key))
    for name, item in known.items():
        optional = partial and (item.default is not MISSING or item.default_factory is not MISSING)
        if name not in values and not optional:
            raise JSONValueError(f"{_below(where, name)}: required a value, found none")
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(_below(where, error)) from error


def value_from(kind: Any, value: Any, where: str) -> Any:
    """A JSON value as what an annotation says.

    Args:
        kind: Any, bool, int, float, str, a Literal, a dataclass, an array, a tuple, Sequence or Mapping of these, or a
            union of them and None.
        value: the value.
        where: its place, for the message.

    Raises:
        JSONValueError: when it is none.
    """
    if kind is Any:
        return value
    if get_origin(kind) in (Union, UnionType):
        if value is None:
            return None
        return _either([option for option in get_args(kind) if option is not NoneType], value, where)
    if kind is float:
        return _float(value, where)
    if kind in (bool, int, str):
        return _plain(kind, value, where)
    if is_dataclass(kind):
        return record_from(kind, value, where)  # type: ignore[arg-type]  # a class, not an instance
    return _container(kind, value, where)


def shaped(array: NDArray[Any], shape: tuple[int, ...], where: str) -> NDArray[Any]:
    """An array that has to have this shape; an empty one is given it, since JSON does not write it down.

    Raises:
        JSONValueError: when it has another one.
    """
    if array.shape != shape and (array.size or np.prod(shape)):
        _refuse(where, f"shape {shape}", array.shape)
    return array.reshape(shape)


def require(condition: bool, where: str, required: str, found: object) -> None:
    """Refuses a value that does not fit the others of its document.

    Raises:
        JSONValueError: when the condition does not hold.
    """
    if not condition:
        _refuse(where, required, found)


def _either(kinds: Sequence[Any], value: Any, where: str) -> Any:
    """The value as the first kind that it fits; the message is that of the last."""
    for kind in kinds[:-1]:
        with suppress(JSONValueError):
            return value_from(kind, value, where)
    return value_from(kinds[-1], value, where)


def _container(kind: Any, value: Any, where: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value not in inner or isinstance(value, bool | float):
            _refuse(where, f"one of {inner}", value)
        return value
    if origin is Mapping:
        if not isinstance(value, Mapping):
            _refuse(where, "an object", value)
        return {key: value_from(inner[1], item, _below(where, key)) for key, item in value.items()}
    if not isinstance(value, list):
        _refuse(where, "a list", value)
    if origin is np.ndarray:
        return _array(value, where, get_args(inner[1])[0])
    items = [value_from(inner[0], item, f"{where}[{place}]") for place, item in enumerate(value)]
    return items if origin is Sequence else tuple(items)


def _array(value: Sequence[Any], where: str, scalar: type[np.generic]) -> NDArray[Any]:
    whole = issubclass(scalar, np.integer)

    def leaves(item: Any, place: str) -> Any:
        if isinstance(item, list):
            return [leaves(one, f"{place}[{index}]") for index, one in enumerate(item)]
        return _plain(int, item, place) if whole else _float(item, place)

    try:
        return np.array(leaves(value, where), dtype=scalar)
    except JSONValueError:
        raise
    except ValueError as error:
        raise JSONValueError(f"{where}: required rows of one length, found others") from error


def _plain(kind: type, value: Any, where: str) -> Any:
    if type(value) is not kind or (isinstance(value, int) and not -_INTEGERS <= value < _INTEGERS):
        _refuse(where, {bool: "true or false", int: "a whole number of 64 bits", str: "text"}[kind], value)
    return value


def _float(value: Any, where: str) -> float:
    if value is None:
        return float("nan")
    if isinstance(value, str) and value in ("inf", "-inf"):
        return float(value)
    if type(value) is float or (type(value) is int and abs(value) <= _EXACT):
        return float(value)
    return _refuse(where, "a number", value)


def _below(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _refuse(where: str, required: str, found: object) -> NoReturn:
    raise JSONValueError(f"{where}: required {required}, found {shown(found)}")
