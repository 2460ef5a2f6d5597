from pathlib import Path

import pytest

from cluster.config import ClusterConfig, TargetConfig
from cluster.config_loader import from_environment, load_config, merge, parse_config
from workers.contract.errors import ConfigurationError


def test_defaults_serve_the_embedded_model_with_its_own_drafter():
    config = ClusterConfig()
    assert config.target.runner_settings().model == "smollm2-135m-instruct"
    assert config.drafters.drafter_settings().model == "smollm2-135m-instruct-drafter"
    assert config.drafters.enabled and config.drafters.computes
    assert config.http.host == "127.0.0.1"


def test_role_settings_carry_everything_but_the_placement():
    config = parse_config(
        {
            "target": {"model": "m", "runner": {"dtype": "float32"}, "resources": {"large": 1}},
            "drafters": {"model": "d", "replicas": 3, "max_sequences": 9, "runner": {"threads": 2}},
        }
    )
    assert config.target.runner_settings().model == "m"
    assert config.target.runner_settings().dtype == "float32"
    drafter = config.drafters.drafter_settings()
    assert (drafter.model, drafter.max_sequences, drafter.runner.threads) == ("d", 9, 2)
    assert config.drafters.computes


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"targt": {}}, "unknown key targt: did you mean target?"),
        ({"target": {"replica": 2}}, "unknown key target.replica: did you mean replicas?"),
        ({"target": {"runner": {"dtyp": "x"}}}, "unknown key target.runner.dtyp: did you mean dtype"),
        ({"ray": {"zzz": 1}}, "unknown key ray.zzz: known keys: address"),
        ({"target": {"tp": 0}}, "target.tp: input should be greater than or equal to 1, got 0"),
        ({"http": {"port": "web"}}, "http.port: input should be a valid integer"),
        (
            {"target": {"runner": {"model": "m"}}},
            "the model's name belongs in target.model, not in target.runner.model",
        ),
        ({"target": 3}, "target: input should be"),
    ],
)
def test_a_mistake_is_named_and_a_mend_offered(values, sentence):
    with pytest.raises(ConfigurationError) as error:
        parse_config(values)
    assert sentence in str(error.value)


def test_every_mistake_gets_a_line():
    with pytest.raises(ConfigurationError) as error:
        parse_config({"a": 1, "target": {"tp": 0}})
    assert len(str(error.value).splitlines()) == 2


def test_command_line_beats_environment_beats_file(tmp_path: Path):
    file = tmp_path / "outrider.yaml"
    file.write_text("target: {model: from-file, tp: 2, replicas: 2}\nhttp: {port: 9000}\n")
    config = load_config(
        file,
        environ={"OUTRIDER_TARGET__TP": "3", "OUTRIDER_TARGET__REPLICAS": "3", "OUTRIDER_CACHE": "/x", "HOME": "/"},
        overrides={"target": {"tp": 4, "model": None}, "drafters": {"replicas": None}},
    )
    assert (config.target.model, config.target.replicas, config.target.tp) == ("from-file", 3, 4)
    assert config.http.port == 9000
    assert config.drafters.replicas == 1


def test_environment_values_are_typed():
    nested = from_environment({"OUTRIDER_SCHEDULER__LOOKUP": "false", "OUTRIDER_TARGET__RUNNER__THREADS": "2"})
    assert nested == {"scheduler": {"lookup": False}, "target": {"runner": {"threads": 2}}}


def test_merge_leaves_its_arguments_alone():
    base = {"a": {"b": 1}}
    assert merge(base, {"a": {"c": 2}}) == {"a": {"b": 1, "c": 2}}
    assert base == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("- 1\n", "must hold a mapping, not a list"), ("a: [", "is not valid YAML"), (None, "No such file")],
)
def test_an_unreadable_file_is_a_sentence(tmp_path: Path, text, sentence):
    file = tmp_path / "c.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError, match=sentence) as error:
        load_config(file)
    assert str(file) in str(error.value)


def test_an_empty_file_is_the_default(tmp_path: Path):
    file = tmp_path / "c.yaml"
    file.write_text("# nothing\n")
    assert load_config(file) == ClusterConfig()


@pytest.mark.parametrize(
    ("values", "model"),
    [
        ({"target": {"model": "other"}}, "ngram"),
        ({"target": TargetConfig(model="other")}, "ngram"),
        ({"target": {"tp": 3}, "drafters": {"replicas": 2}}, "smollm2-135m-instruct-drafter"),
        ({"drafters": {"model": "none"}}, "none"),
        ({"drafters": {"model": "mine"}}, "mine"),
    ],
)
def test_the_drafter_that_comes_along_is_for_its_own_target(values, model):
    assert ClusterConfig.model_validate(values).drafters.model == model
