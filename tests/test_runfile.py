import pytest
import yaml

from crdetect import InputError, Parameters
from crdetect.parameters import BLOCKS, Inputs, template
from crdetect.runfile import RunFile, inputs_text, read_params, requirements_text

GOOD = """\
images: [a.fits, b.fits, c.fits]
extnum: SCI
gain: 1.25
rnoise: rnoise.fits
requirements:
  crmethod: mm_lacosmic
  la_sigclip: [6.0, 4.0]
  pc_replace_error: 1.0E6
  pixels_to_be-flagged_as_cr: [[2, 3]]
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "params.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def complaint(path, *overrides):
    with pytest.raises(InputError) as caught:
        read_params(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_good_file(write):
    path = write(GOOD)
    runfile = read_params(path)
    assert runfile.folder == path.parent
    assert runfile.inputs.images == ("a.fits", "b.fits", "c.fits")
    assert (runfile.inputs.extnum, runfile.inputs.gain) == ("SCI", 1.25)
    assert (runfile.inputs.rnoise, runfile.inputs.bias) == ("rnoise.fits", 0.0)
    assert runfile.parameters.la.la_sigclip == (6.0, 4.0)
    assert runfile.parameters.pc.pc_replace_error == 1.0e6
    assert runfile.parameters.general.pixels_to_be_flagged_as_cr == ((2, 3),)


def test_template_is_a_good_file(write):
    runfile = read_params(write(template()))
    assert runfile.parameters == Parameters()
    assert runfile.inputs.images == tuple(f"exposure_{i}.fits" for i in (1, 2, 3))


@pytest.mark.parametrize(
    "requirements", ["", "requirements:", "requirements: none", "requirements: {}"]
)
def test_defaults_without_requirements(write, requirements):
    text = GOOD.partition("requirements")[0] + requirements
    assert read_params(write(text)).parameters == Parameters()


@pytest.mark.parametrize(
    ("override", "block", "name", "expected"),
    [
        ("la_sigclip=7", "la", "la_sigclip", 7.0),
        ("la_sigclip=[7, 5]", "la", "la_sigclip", (7.0, 5.0)),
        ("mm_seed=none", "mm", "mm_seed", None),
        ("mm_seed=", "mm", "mm_seed", None),
        ("use_auxmedian=true", "general", "use_auxmedian", True),
        (" dilation = 2 ", "general", "dilation", 2),
        ('regions_to_be_skipped="[1:2, 3:4]"', "general", "regions_to_be_skipped", ((1, 2, 3, 4),)),
        ("pixels_to_be_flagged_as_cr=[4,5]", "general", "pixels_to_be_flagged_as_cr", ((4, 5),)),
        ("pixels_to_be-flagged_as_cr=[4,5]", "general", "pixels_to_be_flagged_as_cr", ((4, 5),)),
    ],
)
def test_overrides_take_the_place_of_the_file(write, override, block, name, expected):
    parameters = read_params(write(GOOD), [override]).parameters
    assert getattr(getattr(parameters, block), name) == expected


def test_overrides_of_the_input(write):
    overrides = ["gain=3", "extnum=1", "images=[x.fits, y.fits, z.fits, w.fits]", "gain=4"]
    inputs = read_params(write(GOOD), overrides).inputs
    assert (inputs.gain, inputs.extnum, len(inputs.images)) == (4.0, 1, 4)


@pytest.mark.parametrize(
    ("override", "needle"),
    [
        ("la_sigclip", "must be key=value"),
        ("=5", "must be key=value"),
        ("la_sigclip=[5", "not valid YAML"),
        ("la_sigclp=5", "did you mean la_sigclip?"),
        ("la_sigclip=-5", "la_sigclip must be"),
    ],
)
def test_bad_overrides(write, override, needle):
    assert needle in complaint(write(GOOD), override)


@pytest.mark.parametrize(
    ("text", "needles"),
    [
        ("", ["is empty", "crdetect template"]),
        ("# nothing\n", ["is empty"]),
        ("[a, b]", ["holds a list"]),
        ("just text", ["holds a str"]),
        ("images: [a\ngain: 1\n", ["not valid YAML", "line 2"]),
        ("a: 1\nb: 2\n\ta: 3\n", ["not valid YAML", "line 3"]),
        ("gain: 1\nrnoise: 2\ngain: 3\n", ["not valid YAML", "gain is given twice", "line 3"]),
        (GOOD + "  crmethod: lacosmic\n", ["crmethod is given twice", "line 10"]),
        ("gain: {{ gain }}\n", ["not valid YAML", "line 1"]),
        ("? [1, 2]\n: 3\n", ["not valid YAML", "line 1"]),
        ("gain: !!python/object/apply:os.getcwd []\n", ["not valid YAML"]),
        ("a: 1\n---\nb: 2\n", ["not valid YAML"]),
        ("a: \x01", ["not valid YAML"]),
        (b"gain: \xff\xfe1\n", ["not text"]),
        (GOOD.partition("requirements")[0] + "requirements: [1, 2]\n", ["requirements must be"]),
        (GOOD.partition("requirements")[0] + "requirements: crmethod\n", ["requirements must be"]),
        (GOOD.replace("gain: 1.25\n", ""), ["gain is missing"]),
        (GOOD + "crmethod: lacosmic\n", ["crmethod belongs under requirements"]),
        (GOOD + "gian: 3\n", ["gian is not a parameter; did you mean gain?"]),
        (GOOD + "  gain: 3\n", ["gain is not a parameter"]),
    ],
)
def test_bad_files(write, text, needles):
    message = complaint(write(text))
    assert "params.yaml" in message
    assert all(needle in message for needle in needles), message


def test_all_faults_of_both_parts_together(write):
    text = GOOD.replace("1.25", "0").replace("[6.0, 4.0]", "[6.0]") + "  crmethdo: x\nbais: 3\n"
    message = complaint(write(text))
    for needle in ("gain must be", "did you mean bias", "la_sigclip must be", "did you mean crme"):
        assert needle in message


def test_file_that_is_not_there(tmp_path):
    assert "nowhere.yaml" in complaint(tmp_path / "nowhere.yaml")


def test_folder_in_place_of_a_file(tmp_path):
    assert complaint(tmp_path) == f"{tmp_path} is a folder, a params file (YAML) is needed"
    (tmp_path / "params.yaml").touch()
    assert complaint(tmp_path).endswith(f"did you mean {tmp_path / 'params.yaml'}?")


def test_faults_of_the_command_line_are_not_those_of_the_file(write):
    path = write(GOOD.replace("[6.0, 4.0]", "[6.0]"))
    overrides = ["crmetod=lacosmic", "gain=-1", "pixels_to_be-flagged_as_cr=[0, 5]", "bias=3"]
    of_set, _, of_file = complaint(path, *overrides).partition("params.yaml: ")
    assert of_set.split("; --set ")[0] == (
        "--set crmetod=lacosmic: crmetod is not a parameter; did you mean crmethod?"
    )
    assert "; --set gain=-1: gain must be a number > 0" in of_set
    assert "; --set pixels_to_be-flagged_as_cr=[0, 5]: pixels_to_be_flagged_as_cr must" in of_set
    assert "bias" not in of_set
    assert of_file.startswith("la_sigclip must be")
    assert "gain" not in of_file
    assert "params.yaml" not in complaint(write(GOOD), *overrides)


def test_all_missing_files_are_told(write):
    text = GOOD.replace("gain: 1.25", "gain: g.fits").replace("a.fits", "/a.fits")
    path = write(text)
    (path.parent / "b.fits").touch()
    with pytest.raises(InputError) as caught:
        read_params(path).located()
    found = str(caught.value).partition(" (looked in ")[0]
    assert (
        found
        == "images: no file /a.fits, c.fits; gain: no file g.fits; rnoise: no file rnoise.fits"
    )


REQUIREMENTS = {
    "crmethod": "mm_lacosmic",
    "la_sigclip": [4.5, 1e-7],
    "mm_seed": 2**127 + 1,
    "flux_factor": [0.1 + 0.2, 1.0, 1 / 3],
    "pixels_to_be_ignored_as_cr": [[3, 4], [5, 6]],
    "mm_fixed_points_in_boundary": [[0.1, 2.0], [3.0, 1e20, 5.0]],
}


def test_params_that_are_written_are_read_as_they_were(tmp_path):
    parameters = Parameters.from_mapping(REQUIREMENTS)
    (tmp_path / "data").mkdir()
    names = ["data/a: #1.fits", "data/b.fits", "data/c.fits", "gain.fits"]
    for name in names:
        (tmp_path / name).touch()
    inputs = Inputs(images=names[:3], gain="gain.fits", rnoise=3.1, extnum="SCI", bias=1e-3)
    located = RunFile(inputs, parameters, tmp_path).located()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "used.yaml").write_text(
        inputs_text(located) + requirements_text(parameters), "utf-8"
    )
    read = read_params(elsewhere / "used.yaml")
    assert read.parameters == parameters
    assert read.inputs.images == tuple(str(tmp_path / name) for name in names[:3])
    assert read.inputs.gain == str(tmp_path / "gain.fits")
    assert (read.inputs.extnum, read.inputs.rnoise, read.inputs.bias) == ("SCI", 3.1, 1e-3)


def test_requirements_are_those_of_the_blocks_that_take_part():
    written = yaml.safe_load(requirements_text(Parameters.from_mapping(REQUIREMENTS)))
    assert Parameters.from_mapping(written["requirements"]).to_mapping() == (
        Parameters.from_mapping(REQUIREMENTS).to_mapping()
    )
    blocks = {name.partition("_")[0] for name in written["requirements"]} & set(BLOCKS)
    assert blocks == {"la", "mm"}
