"""Control files of numina: what is nearly right is told; see test_recipe.py for whole runs."""

import logging
import re
from types import SimpleNamespace

import pytest

from crdetect.control import faults_of_control_file, other_names, warn_of_other_profiles

PROFILE = "c5f9de80"
LOGGER = "numina.recipes.crdetect"


class Recipe:
    """A recipe that knows some requirements."""

    def __init__(self, *names):
        self.names = names

    def requirements(self):
        return dict.fromkeys(self.names)


RECIPES = {
    "CrDetection": Recipe("crmethod", "mm_seed"),
    "CrCombination": Recipe("crmasks", "use_auxmedian"),
}


class Drp:
    """The description of an instrument."""

    def __init__(self, packaged=None):
        self.pipelines = {"default": SimpleNamespace(recipes=dict.fromkeys(RECIPES))}
        self.modes = dict.fromkeys(RECIPES)
        self.default_requirements = lambda: {} if packaged is None else packaged

    def get_recipe_object(self, mode, pipeline):
        assert pipeline == "default"
        return RECIPES[mode]


def block(mode="CrDetection", **requirements):
    return SimpleNamespace(
        instrument="CRDETECT",
        profile=PROFILE,
        pipeline="default",
        mode=mode,
        requirements=requirements,
    )


def dal_of(table=None, line=None, packaged=None):
    """What numina hands to a recipe: control file and command line, where there are any."""
    drp = Drp(packaged)
    drps = SimpleNamespace(
        query_by_name={"CRDETECT": drp}.__getitem__,
        query_all=lambda: {"CRDETECT": drp, "MEGARA": None},
    )
    given = {} if table is None else {"req_table": table}
    given |= {} if line is None else {"extra_data": line}
    return SimpleNamespace(drps=drps, **given)


def control(mode="CrDetection", instrument="CRDETECT", profile=PROFILE, pipeline="default", **more):
    entries = [{"name": name, "content": value} for name, value in more.items()]
    return {instrument: {profile: {pipeline: {mode: entries}}}}


def test_no_control_file_has_no_faults():
    assert faults_of_control_file(block(), dal_of()) == []
    assert other_names(block(crmethod="joint"), dal_of(), {"crmethod"}) == {}


def test_control_file_with_all_names_right():
    dal = dal_of(control(mm_seed=1) | {"MEGARA": {"profile": {}}})
    assert faults_of_control_file(block(), dal) == []


@pytest.mark.parametrize(
    ("table", "name", "right"),
    [
        (control(instrument="CRDETCT"), "CRDETCT", "CRDETECT"),
        (control(instrument="CRDETECTS"), "CRDETECTS", "CRDETECT"),
        (control(pipeline="defualt"), "defualt", "default"),
        (control(mode="CrDetecton"), "CrDetecton", "CrDetection"),
        (control(mode="CRDetection"), "CRDetection", "CrDetection"),
    ],
)
def test_misspelt_names_are_told_with_the_right_one(table, name, right):
    expected = f"the control file has values for {name}; did you mean {right}?"
    assert faults_of_control_file(block(), dal_of(table)) == [expected]


@pytest.mark.parametrize("mode", ["CrCombination", "Simulation", "Bias"])
def test_names_of_others_are_no_faults(mode):
    """Another mode may be near enough in its spelling, and still be a mode."""
    assert faults_of_control_file(block(), dal_of(control(mode=mode))) == []


def test_names_of_other_instruments_are_no_faults():
    assert faults_of_control_file(block(), dal_of(control(instrument="MEGARA"))) == []
    assert faults_of_control_file(block(), dal_of(control(profile=PROFILE + "x"))) == []


def warnings_in(caplog):
    return [record.getMessage() for record in caplog.records if record.name == LOGGER]


@pytest.mark.parametrize(
    ("profiles", "packaged", "warned"),
    [
        ({}, {}, None),
        ({PROFILE: 1}, {}, None),
        ({PROFILE: 1, "default": 2}, {}, None),
        ({"default": 2}, {}, "default"),
        ({"default": 2, "old": 3}, {}, "default, old"),
        ({"default": 2}, {"default": 2}, None),
        ({"default": 2, "old": 3}, {"default": 2}, "old"),
        ({PROFILE: 1, "old": 3}, {PROFILE: 1}, "old"),
    ],
)
def test_values_for_other_profiles_only_are_warned_of(caplog, profiles, packaged, warned):
    """Those that the package brings itself are nobody's mistake."""
    dal = dal_of({"CRDETECT": profiles}, packaged={"requirements": {"CRDETECT": packaged}})
    with caplog.at_level(logging.WARNING, LOGGER):
        warn_of_other_profiles(block(), dal)
    found = warnings_in(caplog)
    assert len(found) == (warned is not None)
    if warned:
        assert re.search(rf"requirements for the profile {warned}, .* {PROFILE}$", found[0])


def test_no_warning_without_a_control_file(caplog):
    warn_of_other_profiles(block(), dal_of())
    assert warnings_in(caplog) == []


KNOWN = {"crmethod", "mm_seed"}


def test_names_that_are_no_requirement_are_collected_with_their_values():
    dal = dal_of(control(mm_sed=3, mm_seed=1))
    found = other_names(block(crmethod="joint", crmethd="joint"), dal, KNOWN)
    assert found == {"mm_sed": 3, "crmethd": "joint"}


def test_block_comes_before_the_control_file_and_the_command_line_before_both():
    dal = dal_of(control(a=1, b=1, c=1), line={"c": 3})
    assert other_names(block(b=2, c=2), dal, KNOWN) == {"a": 1, "b": 2, "c": 3}


def test_control_file_for_another_mode_is_not_asked():
    assert other_names(block(), dal_of(control(mode="CrCombination", crmask=3)), KNOWN) == {}
    assert other_names(block(), dal_of(control(profile="other", mm_sed=3)), KNOWN) == {}


def test_command_line_speaks_to_all_modes():
    """What another mode knows is not a mistake of this one; what none knows is."""
    dal = dal_of(line={"use_auxmedian": True, "mm_seed": 1, "mm_sed": 3})
    assert other_names(block(), dal, KNOWN) == {"mm_sed": 3}
    assert other_names(block("CrCombination"), dal, {"crmasks", "use_auxmedian"}) == {"mm_sed": 3}
