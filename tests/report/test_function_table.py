"""Rows of the function of a heart: units in the names, intervals behind their numbers, refused numbers empty."""

from dataclasses import replace

from crnn_cli.cardiac.function import assess_function
from crnn_cli.cardiac.quantities import Quantity
from crnn_cli.report.function.table import record_of
from tests.cardiac.hearts import CHAMBERS, heart


def test_an_interval_stands_behind_its_number_and_nothing_else_changes():
    function = assess_function(heart(frames=4), CHAMBERS)
    plain = record_of(function.as_json())
    left = function.ventricles["left ventricle"]
    wide = replace(
        left, edv=replace(left.edv, low=90.0, high=110.5, level=0.9), esv=Quantity.refused("ml", "no reason")
    )
    found = record_of(replace(function, ventricles=function.ventricles | {"left ventricle": wide}).as_json())
    assert (found["left_edv_ml_low"], found["left_edv_ml_high"]) == (90.0, 110.5)
    assert [name for name in found if name not in plain] == ["left_edv_ml_low", "left_edv_ml_high"]
    assert list(found)[list(found).index("left_edv_ml") + 1] == "left_edv_ml_low"
    assert found["left_esv_ml"] is None
    assert found["left_edv_ml"] == plain["left_edv_ml"]
