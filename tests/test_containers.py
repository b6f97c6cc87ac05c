"""What containers are told of is there: files, extras, options, paths and limits. Docker itself is not needed."""

import re
import tomllib
from typing import Any

import yaml
from x2i.runtime.server.command import serve

from tests.made_once import ROOT

DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text("utf-8")
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = SETTINGS["project"]


def copied() -> list[str]:
    """What the images take of the repository."""
    return [
        name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()
    ]


def manifests() -> dict[str, dict[str, Any]]:
    """Kubernetes' objects by their kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((ROOT / "docker" / "kubernetes.yaml").read_text("utf-8"))}


def container() -> dict[str, Any]:
    (only,) = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"]
    return only


def served(arguments: list[str]) -> dict[str, Any]:
    """The options of `x2i serve` as it reads them."""
    assert arguments[0] == "serve"
    return serve.make_context("serve", arguments[1:]).params


def test_what_is_copied_is_there_and_sent_to_the_builder() -> None:
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")]
    assert sorted(copied()) == sorted(sent)
    assert all((ROOT / name).exists() for name in copied())


def test_the_wheel_is_made_from_all_that_it_needs() -> None:
    rooms = {name.split(".")[1] for name in SETTINGS["tool"]["setuptools"]["packages"]}
    files = {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml"}
    assert {*copied()} == rooms | files


def test_extras_exist() -> None:
    named = re.findall(r"\[([a-z,-]+)\]\"", DOCKERFILE)
    assert named
    assert {extra for each in named for extra in each.split(",")} <= PROJECT["optional-dependencies"].keys()


def test_commands_are_options_of_the_server() -> None:
    for words in re.findall(r"^CMD (\[.+\])$", DOCKERFILE, re.MULTILINE):
        assert served(yaml.safe_load(words))["host"] == "0.0.0.0"


def test_the_pod_is_the_images_user_and_version() -> None:
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    assert {*re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)} == {str(pod["securityContext"]["runAsUser"])}
    assert container()["image"] == f"x2i:{PROJECT['version']}"


def test_the_pod_may_end_what_it_drains() -> None:
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    assert served(container()["args"])["drain"] < pod["terminationGracePeriodSeconds"]


def test_the_pods_memory_holds_what_the_server_may_take() -> None:
    limit = container()["resources"]["limits"]["memory"]
    told = container()["args"][container()["args"].index("--max-memory") + 1]
    assert int(told.removesuffix("GB")) < int(limit.removesuffix("Gi"))


def test_probes_ask_paths_of_the_server() -> None:
    docs = (ROOT / "docs" / "serving.md").read_text("utf-8")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container()[probe]["httpGet"]["path"] in docs


def test_ports_agree() -> None:
    (port,) = container()["ports"]
    (service,) = manifests()["Service"]["spec"]["ports"]
    assert service["targetPort"] == port["name"]
    assert {str(port["containerPort"])} == {*re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)}
    assert served(container()["args"])["port"] == port["containerPort"]


def test_all_that_is_written_is_a_volume() -> None:
    (volumes,) = {*re.findall(r"^VOLUME (\[.+\])$", DOCKERFILE, re.MULTILINE)}
    mounted = {each["mountPath"] for each in container()["volumeMounts"]}
    assert {*yaml.safe_load(volumes), "/tmp"} <= mounted
