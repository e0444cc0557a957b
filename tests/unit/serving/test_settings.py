"""Flags win over the environment, the environment over the file; and every error says where its value stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.cli import PROGRAM, to_yaml
from serving.config.config import ServeConfig
from serving.config.models import ModelSettings, VersionPolicy, model_settings
from voc_cls.console import with_flags
from voc_cls.errors import UsageError

SERVICE = {  # what Kubernetes sets where a service is called voc-serve
    "VOC_SERVE_SERVICE_HOST": "10.0.0.7", "VOC_SERVE_SERVICE_PORT": "8500", "VOC_SERVE_SERVICE_PORT_GRPC": "8500",
    "VOC_SERVE_PORT": "tcp://10.0.0.7:8500", "VOC_SERVE_PORT_8500_TCP": "tcp://10.0.0.7:8500",
    "VOC_SERVE_PORT_8500_TCP_PROTO": "tcp", "VOC_SERVE_PORT_8500_TCP_PORT": "8500",
    "VOC_SERVE_PORT_8500_TCP_ADDR": "10.0.0.7",
}


def config(*flags: object, **environment: str) -> ServeConfig:
    return PROGRAM.read([str(flag) for flag in flags], environment).config(ServeConfig)


def refusal(*flags: object, **environment: str) -> str:
    def use() -> None:
        settings = PROGRAM.read([str(flag) for flag in flags], environment)
        with settings.explaining():
            model_settings(settings.config(ServeConfig).models)

    with pytest.raises(UsageError) as error:
        use()
    return with_flags(str(error.value))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that sets some values, in groups."""
    path = tmp_path / "serve.yaml"
    path.write_text("models: {model_dir: models/voc, versions: 3, version_labels: [stable=3]}\n"
                    "ports: {port: 1001}\n"
                    "batching: {max_batch_size: 8, batch_timeout_ms: 1e1, queue_size: 20}\n"
                    "security: {reflection: off, tls_cert: server.pem, tls_key: /keys/server.key}\n"
                    "life_cycle:\n")
    return path


def test_the_file_is_overridden_by_the_environment_and_that_by_flags(file: Path) -> None:
    assert config().ports.port == 8500
    assert config("--config", file).ports.port == 1001
    assert config("--config", file, VOC_SERVE_PORT="1002").ports.port == 1002
    assert config("--config", file, "--port", 1003, VOC_SERVE_PORT="1002").ports.port == 1003
    assert config("--config", file, "--port", 8500, VOC_SERVE_PORT="1002").ports.port == 8500
    everything = config("--config", file, "--queue-size", 30, VOC_SERVE_MAX_BATCH_SIZE="4").batching
    assert (everything.max_batch_size, everything.batch_timeout_ms, everything.queue_size) == (4, 10.0, 30)


def test_the_file_may_be_named_by_the_environment_and_a_flag_names_another(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("ports: {port: 7}")
    assert config(VOC_SERVE_CONFIG=str(file)).ports.port == 1001
    assert config(f"--config={other}", VOC_SERVE_CONFIG=str(file)).ports.port == 7


def test_paths_of_the_file_are_relative_to_it_and_others_to_where_one_is(file: Path, tmp_path: Path) -> None:
    read = config("--config", file, "--keys-file", "keys.yaml")
    assert read.models.model_dir == tmp_path / "models/voc"
    assert (read.security.tls_cert, read.security.tls_key) == (tmp_path / "server.pem", Path("/keys/server.key"))
    assert read.security.keys_file == Path("keys.yaml")


def test_values_have_the_types_of_their_fields(file: Path) -> None:
    read = config("--config", file, VOC_SERVE_CLIENT_RATE="2.5", VOC_SERVE_LOG_FORMAT="json", VOC_SERVE_HOST=" ::1 ",
                  VOC_SERVE_VERSION_LABELS="stable=3, canary=3 old=3", VOC_SERVE_MODEL_NAME="")
    assert (read.security.client_rate, read.observability.log_format, read.ports.host) == (2.5, "json", "::1")
    assert read.security.reflection == "off"  # which YAML reads as false
    assert read.models.version_labels == ("stable=3", "canary=3", "old=3")
    assert read.models.model_name is None


def test_several_models_may_stand_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text("models:\n  poll_seconds: 5\n  served:\n"
                    "    - {path: models/voc, versions: [1, 2], labels: {stable: 1}}\n"
                    "    - {name: dogs, path: /dogs}\n")
    read = config("--config", path).models
    assert read.poll_seconds == 5
    assert model_settings(read) == (
        ModelSettings("voc", tmp_path / "models/voc", VersionPolicy("specific", numbers=(1, 2)), {"stable": 1}),
        ModelSettings("dogs", Path("/dogs")))


def test_whoever_names_other_models_above_replaces_those_below(file: Path, tmp_path: Path) -> None:
    several = tmp_path / "several.yaml"
    several.write_text("models: {served: [{path: a}, {path: b}]}")
    models = tmp_path / "models.yaml"
    models.write_text("[{path: c}]")

    def names(*flags: object, **environment: str) -> list[str]:
        return [model.name for model in model_settings(config(*flags, **environment).models)]

    assert names("--config", several) == ["a", "b"]
    assert names("--config", several, "--model-dir", "voc") == ["voc"]
    assert names("--config", several, VOC_SERVE_MODEL_DIR="voc") == ["voc"]
    assert names("--config", several, f"--models-file={models}") == ["c"]
    assert names("--config", file, "--models_file", models) == ["c"]
    assert names("--models-file", models, VOC_SERVE_MODEL_DIR="voc", VOC_SERVE_MODEL_NAME="x") == ["c"]


def test_the_printed_configuration_says_the_same_from_anywhere(file: Path, tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    called = PROGRAM.read(["--config", str(file), "--http-port", "-1", "--keys-file", "keys.yaml"],
                               {"VOC_SERVE_PORT": "1002", "VOC_SERVE_TRACE_TO": "http://[::1]:4317"})
    text = to_yaml(called)
    assert "  port: 1002  # VOC_SERVE_PORT\n" in text
    assert "  http_port: -1  # given as a flag\n" in text
    assert f"  queue_size: 20  # {file}: batching.queue_size\n" in text
    assert "  grace_seconds: 30\n" in text
    printed = tmp_path / "elsewhere" / "printed.yaml"
    printed.parent.mkdir()
    printed.write_text(text)
    keys = Path("keys.yaml").absolute()
    monkeypatch.chdir(tmp_path)
    again = PROGRAM.read(["--config", str(printed)], {})
    assert [line.partition("  #")[0] for line in to_yaml(again).splitlines()] == [
        line.partition("  #")[0] for line in text.splitlines()]
    assert again.config(ServeConfig).security.keys_file == keys
    assert again.config(ServeConfig).batching == called.config(ServeConfig).batching


def test_the_printed_models_are_the_same_too(tmp_path: Path) -> None:
    path, printed = tmp_path / "serve.yaml", tmp_path / "printed.yaml"
    path.write_text("models: {served: [{path: a, versions: 'latest:2'}, {name: b, path: x y/ü, labels: {stable: 1}}]}")
    printed.write_text(to_yaml(PROGRAM.read(["--config", str(path)], {})), encoding="utf-8")
    assert config("--config", printed).models == config("--config", path).models


@pytest.mark.parametrize(("text", "message"), [
    ("ports: {prot: 1}", ": ports.prot: no such key; did you mean port? known are host, port, http_port"),
    ("port: 8500", ": unknown key port (write it below ports:); known are models, ports, engine"),
    ("batch: {}", ": unknown key batch (did you mean batching?); known are models"),
    ("colour: red", ": unknown key colour; known are models, ports"),
    ("[1]", ": has no keys; expected models, ports"),
    ("ports: 8500", ": ports: expected keys and values, found 8500"),
    ("ports: {port: high}", ": ports.port: 'high' cannot be used (not a whole number)"),
    ("ports: {port: 8500.5}", ": ports.port: 8500.5 cannot be used (not a whole number)"),
    ("ports: {port: true}", ": ports.port: true cannot be used (not a number)"),
    ("ports: {host: [a]}", ': ports.host: ["a"] cannot be used (not a text)'),
    ("ports: {port: }", ": ports.port: is empty; omit the key for the default"),
    ("ports: {port: 1, port: 2}", ": cannot be read (line 1: the key port is there twice)"),
    ("security: {reflection: maybe}", ": security.reflection: 'maybe' is not one of auto, on, off"),
    ("models: {version_labels: stable=3}", ": models.version_labels: 'stable=3' is not a list"),
    ("models: {served: voc}", ": models.served: must be a list of models, such as"),
    ("models: {served: [{path: a, version: 3}]}",
     ": models.served: [0].version: no such key; did you mean versions? known are name, path"),
    ("{", ": cannot be read (line 1: expected the node content"),
])
def test_what_is_wrong_in_the_file_is_named_by_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    assert refusal("--config", path, "--model-dir", "a").startswith(f"--config {path}{message}")
    assert refusal("--model-dir", "a", VOC_SERVE_CONFIG=str(path)).startswith(f"VOC_SERVE_CONFIG {path}{message}")


@pytest.mark.parametrize(("variable", "value", "message"), [
    ("VOC_SERVE_QUEUE_SIZE", "many", "VOC_SERVE_QUEUE_SIZE: 'many' cannot be used (not a whole number)"),
    ("VOC_SERVE_LOG_LEVEL", "loud", "VOC_SERVE_LOG_LEVEL: 'loud' is not one of debug, info, warning, error"),
    ("VOC_SERVE_GRACE_SECONDS", "-1", "VOC_SERVE_GRACE_SECONDS -1: must be from 0 to 86400"),
    ("VOC_SERVE_MAX_BATCHSIZE", "8", "VOC_SERVE_MAX_BATCHSIZE: no such variable; did you mean VOC_SERVE_MAX_BATCH"),
    ("VOC_SERVE_COLOUR", "red", "VOC_SERVE_COLOUR: no such variable; `voc-serve --help` lists"),
    ("VOC_SERVE_SERVED", "a", "VOC_SERVE_SERVED: no such variable"),
    ("VOC_SERVE_CHECK", "1", "VOC_SERVE_CHECK: no such variable"),
    ("VOC_SERVE_VERSIONS", "new", "VOC_SERVE_VERSIONS 'new' is not latest"),
    ("VOC_SERVE_PORT", "tcp://10.0.0.7:8500", "VOC_SERVE_PORT: 'tcp://10.0.0.7:8500' cannot be used"),
    ("VOC_SERVE_CONFIG", "none.yaml", "VOC_SERVE_CONFIG none.yaml: cannot be read"),
])
def test_what_is_wrong_in_the_environment_is_named_by_its_variable(variable: str, value: str, message: str) -> None:
    assert refusal("--model-dir", "a", **{variable: value}).startswith(message)


def test_values_that_contradict_each_other_are_named_where_they_stand(file: Path) -> None:
    assert refusal("--config", file, VOC_SERVE_MAX_BATCH_SIZE="24").startswith(
        f"{file}: batching.queue_size 20 is below VOC_SERVE_MAX_BATCH_SIZE 24: no batch of that size")
    assert refusal("--config", file, "--queue-size", 7).startswith(
        f"--queue-size 7 is below {file}: batching.max_batch_size 8")
    assert config("--config", file, "--queue-size", 100, VOC_SERVE_MAX_BATCH_SIZE="24").batching.queue_size == 100


@pytest.mark.parametrize("prefix", ["VOC_SERVE", "VOC_SERVE_HTTP"])
def test_variables_that_kubernetes_sets_for_a_service_are_not_taken_for_settings(prefix: str) -> None:
    environment = {name.replace("VOC_SERVE", prefix): value for name, value in SERVICE.items()}
    assert config(**environment).ports == ServeConfig().ports
    assert refusal(**environment, VOC_SERVE_HOTS="a").startswith("VOC_SERVE_HOTS: no such variable")


def test_flags_are_those_of_the_fields_and_unknown_ones_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^--max-batchsize: no such flag \(did you mean --max-batch-size"):
        config("--max-batchsize", 8)


def test_help_fills_its_lines_and_says_no_default_where_the_text_does(capsys: pytest.CaptureFixture[str],
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as leaving:
        config("--help", VOC_SERVE_QUEUE_SIZE="77")
    assert leaving.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "(default: None)" not in text
    assert "(default: 77)" in text  # what holds if the flag is not given
    joined = " ".join(line.strip("│ ") for line in text.splitlines())
    assert "it may change only versions and labels of the models that the server was started with." in joined
    for flag in ("--config", "--check", "--print-config", "--model-dir", "--tls-cert", "--lame-duck-seconds"):
        assert f" {flag} " in text


def test_help_comes_even_where_something_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        config("--help", "--config", "none.yaml", VOC_SERVE_COLOUR="red")
    assert leaving.value.code == 0
    assert "--max-batch-size" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [["--check"], ["--print-config"], []])
def test_what_to_do_is_said_by_flags_only(flags: list[Any]) -> None:
    start = PROGRAM.read(flags, {}).values
    assert [start["check"], start["print_config"]] == ["--check" in flags, "--print-config" in flags]
