"""SQL-on-FHIR ViewDefinitions: tables whose columns are FHIRPath expressions on resources."""

from inference.views.definition import Column, Select, ViewDefinition
from inference.views.view import MOST_ROWS, Row, View, compile_view

__all__ = ["MOST_ROWS", "Column", "Row", "Select", "View", "ViewDefinition", "compile_view"]
