"""benchmarks/prior.py: the fit finds what was put in, and samples are what they are said to be."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import prior
from benchmarks.quality.fields import Case, Settings, make_case
from benchmarks.quality.sets import FIELDS
from benchmarks.quality.stamps import straight_tracks

SMALL = Settings(shape=(96, 128))
KNOWN = (-4.0, 0.8, 0.5)


def drawn_samples(size, seed=0):
    """Samples whose hits are drawn with the probabilities of a known prior."""
    rng = np.random.default_rng(seed)
    number = rng.integers(1, 9, size).astype(float)
    log_charge = rng.uniform(0, 6, size)
    odds = np.exp(KNOWN[0] + KNOWN[1] * number + KNOWN[2] * log_charge)
    return prior.Samples((rng.uniform(size=size) < odds / (1 + odds)) * 1.0, number, log_charge)


def test_the_fit_finds_the_prior_that_was_put_in():
    np.testing.assert_allclose(prior.fit([drawn_samples(200_000)]), KNOWN, atol=0.05)


def test_populations_weigh_the_same_whatever_their_sizes():
    many = drawn_samples(60_000)
    few = prior.Samples(*(values[:6000] for values in drawn_samples(60_000, seed=1)))
    repeated = prior.Samples(*(np.tile(values, 10) for values in few))
    np.testing.assert_allclose(prior.fit([many, few]), prior.fit([many, repeated]), atol=1e-6)


def test_samples_of_a_single_track():
    charge = np.zeros((1, 9, 9), np.float32)
    charge[0, 4, 3:6] = 1000.0
    charge[0, 3, 4] = 20.0  # a wing of 2 σ
    signal = np.full((1, 9, 9), 0.0, np.float32)
    nowhere = np.zeros((9, 9), bool)
    case = Case("x", signal, 1.0, 10.0, signal, charge, nowhere)
    samples = prior.sample(case)
    assert samples.hit.sum() == 4
    assert samples.hit.size == 18  # three rows of five around the track, three above the wing
    three = samples.hit.astype(bool) & (samples.neighbours == 3)
    # beside the wing: 100 σ below it and twice that diagonally; beside the middle: twice 100, and 2
    np.testing.assert_allclose(np.sort(np.exp(samples.log_charge[three])), [200, 202], rtol=1e-5)


def test_command_prints_all_priors(monkeypatch, capsys):
    small = {name: replace(settings, shape=(96, 128)) for name, settings in FIELDS.items()}
    monkeypatch.setattr(prior, "FIELDS", small)
    monkeypatch.setattr(prior, "POPULATIONS", {"drawn": ("drawn", "equivalent")})
    monkeypatch.setattr(prior, "POOLED", ("drawn",))
    monkeypatch.setattr(sys, "argv", ["prior", "--seeds", "1", "--judge"])
    assert prior.main() == 0
    text = capsys.readouterr().out
    assert "in use" in text
    assert "-5.30" in text
    assert "double hits found" in text


def test_missing_tracks_are_an_error_of_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["prior", "--data", str(tmp_path)])
    monkeypatch.setattr(prior, "POPULATIONS", {"stis": ("stis", "equivalent")})
    assert prior.main() == 2
    assert "stis_dark" in capsys.readouterr().out


def test_wrong_options(capsys):
    with pytest.raises(SystemExit):
        prior.read_options(["--seeds", "0"])
    assert "--seeds" in capsys.readouterr().err


def test_samples_have_hits_and_pixels_that_are_none():
    samples = prior.sample(make_case("x", SMALL, straight_tracks(), 1))
    assert 0.1 < samples.hit.mean() < 0.9
    assert samples.neighbours.min() == 1
    assert samples.neighbours.max() <= 8
