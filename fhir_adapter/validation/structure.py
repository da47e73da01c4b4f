"""Compiles structures to closures (ADR 0036).

:class:`Checks` makes for each structure one function of its JSON, which returns None when nothing is wrong; paths are
put together only for faults. A structure is compiled when it is first needed, with all that it contains. The depth of
the JSON bounds the recursion: documents have at most 64 levels (:data:`fhir_adapter.store.document.DEEPEST`).
"""

from collections.abc import Mapping
from threading import RLock
from typing import Any, Final

from fhir_adapter.validation import rules, slicing
from fhir_adapter.validation.contained import resolved
from fhir_adapter.validation.invariants import of_constraints, of_structure
from fhir_adapter.validation.objects import Shape, broken, names_of, object_rule, primitive_names, repeating_names
from fhir_adapter.validation.primitives import CHECKS
from fhir_adapter.validation.records import Definitions, Element, Fault, Structure
from fhir_adapter.validation.rules import Faults, Rule, Test

_NO_TYPE: Final = Fault("not-supported", "this is no resource type that R4 and this server know")

_OTHER_TYPE: Final = Fault("structure", "the profile demands another resource type here")


class Checks:
    """The functions of all structures of some definitions; compiled when first needed, and shared by threads.

    Parameters
    ----------
    definitions
        R4, or R4 with the structures of a profile.
    """

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self._made: dict[str, Rule] = {}
        #: Those that are being compiled: a structure may contain itself.
        self._making: dict[str, Rule] = {}
        self._lock = RLock()

    def resource(self, value: Any) -> Faults:
        """Return the faults of a resource by its own type, or None."""
        rule = self._of_resource(value)
        return [_NO_TYPE] if rule is None else self.whole(rule, value)

    def whole(self, rule: Rule, value: Mapping[str, Any]) -> Faults:
        """Return the faults of a resource, with its contained resources and the references to them.

        Parameters
        ----------
        rule
            The rule of its type or profile.
        value
            Plain JSON.
        """
        faults = rule(value)
        if faults is None and "contained" not in value:
            return None
        return resolved(value, faults)

    def structure(self, name: str) -> Rule:
        """Return the function of a structure; compiles it when it is first needed."""
        made = self._made.get(name)
        if made is not None:
            return made
        with self._lock:
            try:
                found = self._named(name)
                self._made |= self._making  # now complete: nobody may use one whose parts are not there yet
            finally:
                self._making.clear()
            return found

    def _of_resource(self, value: Any) -> Rule | None:
        kind = value.get("resourceType") if type(value) is dict else None
        if type(kind) is not str or kind not in self.definitions.resources:
            return None
        return self.structure(kind)

    def _contained(self, value: Any) -> Faults:
        rule = self._of_resource(value)
        return [_NO_TYPE] if rule is None else rule(value)

    def _typed_resource(self, rule: Rule, kind: str) -> Rule:
        """Return the rule of a resource within another one whose type a profile states."""

        def check(value: Any) -> Faults:
            if type(value) is not dict or value.get("resourceType") != kind:
                return [_OTHER_TYPE]
            return self.whole(rule, value)

        return check

    def _named(self, name: str) -> Rule:
        return self._made.get(name) or self._making.get(name) or self._compiled(self.definitions.structures[name])

    def _compiled(self, structure: Structure) -> Rule:
        shape = Shape(
            structure=structure,
            primitives=primitive_names(structure),
            repeating=repeating_names(structure),
            invariants=of_structure(structure, self.definitions),
        )
        rule = object_rule(shape)
        self._making[structure.name] = rule  # before its elements, which may contain it
        for element in structure.elements:
            for name, code in names_of(element):
                self._add(name, element, code, shape)
        if structure.base in self.definitions.resources:
            shape.tests |= {"resourceType": lambda _: True, "id": CHECKS["id"]}
            shape.primitives["id"] = ("id", "")
        shape.companion = self._named("Element")
        return rule

    def _add(self, name: str, element: Element, code: str, shape: Shape) -> None:
        """Add the test or rule of one element under one name."""
        valued = element.fixed is not None or element.pattern is not None
        own = of_constraints(element.constraints, self.definitions)
        plain = code in CHECKS and not own and not element.slices and not valued
        if element.most == 0:
            return
        if plain and not element.repeats:
            shape.tests[name] = self._test(code, element)
            return
        shape.tests.pop(name, None)  # a profile may first name all types of a choice, and then one of them
        if plain:
            rule = rules.repeated_primitive(self._test(code, element), code, element.binding)
        else:
            rule = self._valued(code, element)
            rule = rules.repeated(rule) if element.repeats else rule
        if element.slices:
            rule = slicing.sliced(rule, element, self._slices(element), self.structure)
        if element.repeats and (element.least > 1 or element.most is not None):
            rule = rules.counted(rule, element.least, element.most)
        shape.others[name] = rule

    def _valued(self, code: str, element: Element) -> Rule:
        """Return the rule of one item, with its constraints and what a profile fixes."""
        rule = self._one(code, element)
        if element.fixed is not None or element.pattern is not None:
            rule = slicing.valued(rule, element)
        for invariant in of_constraints(element.constraints, self.definitions):
            rule = rules.also(rule, invariant.holds, broken(invariant))
        return rule

    def _slices(self, element: Element) -> Mapping[str, Rule]:
        return {part.name: self._valued(part.element.types[0], part.element) for part in element.slices}

    def _test(self, code: str, element: Element) -> Test:
        if not element.binding:
            return CHECKS[code]
        return rules.coded(frozenset().union(*self.definitions.value_sets[element.binding].values()))

    def _one(self, code: str, element: Element) -> Rule:
        if code in CHECKS:
            return rules.primitive(self._test(code, element), code, element.binding)
        if code == "Resource":
            return self._contained if element.name == "contained" else self.resource
        rule = self._named(code.removeprefix(">"))
        kind = code.rsplit("#", 1)[-1]
        if kind in self.definitions.resources:
            return self._typed_resource(rule, kind)
        if code == "Reference" or element.targets:
            return rules.reference(rule, element.targets, self.definitions.resources)
        if element.binding:
            return rules.concept(rule, self.definitions.value_sets[element.binding], element.binding)
        return rule
