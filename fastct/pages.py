"""What every page needs: templates that escape, one style, and a policy that lets nothing else run or load."""

import hashlib
import json
import math
from base64 import b64encode
from functools import cache
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from fastct.agreement import number


@cache
def template(name: str) -> Template:
    """The template `<name>.html` of this package, with style, script and their hashes for its policy."""
    environment = Environment(
        loader=FunctionLoader(_own_text),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(fixed=fixed, plain_json=plain_json, harmless=harmless)
    for part, suffix in (("style", "css"), ("script", "js")):
        text = _own_text(f"report.{suffix}")
        environment.globals.update({part: Markup(text), f"{part}_hash": _csp_hash(text)})  # noqa: S704
    return environment.get_template(f"{name}.html")


def fixed(value: object, digits: int = 1) -> str:
    """A number with fixed digits, or an en dash where there is none."""
    found = number(value)
    return f"{found:.{digits}f}".replace("-", "−") if math.isfinite(found) else "–"


def plain_json(value: object) -> Markup:
    """A value as JSON that can stand in a script element."""
    return harmless(json.dumps(value))


def harmless(text: str) -> Markup:
    """JSON in which no character means anything to an HTML parser: `</script>` in a name ends nothing."""
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704


def as_utf8(text: str) -> str:
    """Text that can be written; a file name may hold bytes that are none: they are shown as \\udc80."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _own_text(name: str) -> str:
    return files("fastct").joinpath(name).read_text("utf-8")


def _csp_hash(text: str) -> str:
    """How a content security policy names the one script or style that it lets run."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
