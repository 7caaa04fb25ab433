"""Every public name says what it is, in which units and shapes, what it raises, and shows an example that runs."""

import doctest
import inspect

import pytest

import fastct

MODULES = {name: getattr(fastct, name) for name in fastct.__all__ if inspect.ismodule(getattr(fastct, name))}


def names_of(module):
    """What a module offers: its `__all__`, or what it defines."""
    own = (name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__)
    return [name for name in getattr(module, "__all__", own) if not name.startswith("_")]


def public():
    """Every public name of fastct and of its public modules."""
    found = {name: getattr(fastct, name) for name in fastct.__all__ if name not in MODULES}
    for module_name, module in MODULES.items():
        found |= {f"{module_name}.{name}": getattr(module, name) for name in names_of(module)}
    return [pytest.param(value, id=name) for name, value in found.items() if callable(value)]


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_a_public_module_says_what_it_is_for(module):
    assert module.__doc__


@pytest.mark.parametrize("value", public())
def test_a_public_name_shows_an_example_that_runs(value):
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(value) or "")
    assert examples
    assert not any(doctest.SKIP in example.options for example in examples)


@pytest.mark.parametrize("value", public())
def test_a_public_name_tells_its_parameters_and_what_it_raises(value):
    text = inspect.getdoc(value)
    if inspect.isfunction(value) and "raise " in inspect.getsource(value):
        assert "Raises\n" in text
    for name in inspect.signature(value).parameters if inspect.isfunction(value) else ():
        assert name in text, f"{name} is not spoken of"


@pytest.mark.parametrize("value", public())
def test_every_public_method_is_documented(value):
    if inspect.isclass(value):
        for name, member in vars(value).items():
            if not name.startswith("_") and (callable(member) or isinstance(member, (property, classmethod))):
                assert inspect.getdoc(getattr(value, name)), f"{value.__name__}.{name}"
