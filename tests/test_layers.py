"""The folder is the architecture: who may import whom, held by reading every module of the package.

A new module is written into the table here, on the lowest line that lies above all it imports.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "yiagent"
# Bottom up: a module imports only from lines above its own in this list.
LAYERS = (
    # Pure: nouns, names, secrets.
    "__init__ model redact topics",
    # Pure: what is typed and what ffmpeg says, taken apart; what can happen. YAML.
    "urls progress events document rules notice keyframes picturefeed discovery web.head",
    # Pure: settings, commands, ffmpeg's command line and its messages.
    "settings commands ffmpeg diagnosis flow machine",
    # Pure: the wire's JSON; YAML to settings; the page's parts.
    "payloads config handover brokerchoice web.history web.login web.metrics web.origin",
    # Single things of the machine.
    "certificates chance files guard interfaces lean memory moment mqttclient network sendqueue service tap threads"
    " store",
    # The child, the files in the state folder and their lock, the broker's connection.
    "announced brokerfile child console hardware intent lock broker knock narrator vitals",
    "installed protocol probe",
    "about still",
    # The one who owns the child.
    "supervisor",
    # What takes pictures, of what it streams too.
    "picture",
    # The one door.
    "agent",
    "announcer inbox logfeed",
    # The front ends, and the doctor (who examines what they are made of).
    "mqtt",
    "mqttfront",
    "web",
    "web.connections web.live web.page web.password",
    "web.answers",
    "web.routes",
    "web.front",
    "web.serve",
    "doctor.findings",
    "doctor.ffmpeg doctor.server doctor.state doctor.broker",
    "doctor.camera doctor.machine",
    "doctor",
    # Composition root.
    "app",
    "cli",
    "__main__",
)
LAYER = {module: number for number, names in enumerate(LAYERS) for module in names.split()}
PURE = [module for names in LAYERS[:4] for module in names.split() if module != "__init__"]
# What would make a module's outcome depend on the moment or on the machine.
IMPURE = {
    "asyncio",
    "time",
    "os",
    "subprocess",
    "threading",
    "random",
    "select",
    "fcntl",
    "shutil",
    "tempfile",
    "psutil",
}
# Each dependency, and the modules that are made for it.
THIRD_PARTY = {
    "yaml": {"document"},
    "voluptuous": {"config"},
    "psutil": None,
    "paho": {"broker", "mqttclient"},
    "microdot": None,
}
# The package's own pieces that a wire name is made of; each alone is a word like any other.
WIRE_NAMES = "availability|info|state|telemetry|log|snapshot|response|request"
# The page's own addresses begin with /api/.
TOPIC = re.compile(rf"(?!/api/)(\S*/set|availability|\S*/({WIRE_NAMES})|({WIRE_NAMES})/\S*|[+#]/\S*|\S*/[+#](/\S*)?)")


def _modules() -> dict[str, Path]:
    paths = sorted(PACKAGE.rglob("*.py"))
    return {_name(path): path for path in paths}


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = _modules()
TREES = {name: ast.parse(path.read_text(), str(path)) for name, path in MODULES.items()}


def _imports(name: str) -> Iterator[str]:
    """Every module that `name` imports, wherever in it: in full, `yiagent` for the package itself."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} line {node.lineno}: a relative import hides where it comes from"
            module = node.module or ""
            for alias in node.names:
                part = f"{module}.{alias.name}".removeprefix("yiagent.")
                # `from yiagent import machine` imports a module, `from yiagent import __version__` a name.
                yield f"yiagent.{part}" if module.startswith("yiagent") and part in MODULES else module


def _ours(name: str) -> set[str]:
    names = {module for module in _imports(name) if module.partition(".")[0] == "yiagent"}
    return {module.removeprefix("yiagent").removeprefix(".") or "__init__" for module in names}


def test_every_module_has_its_layer() -> None:
    """None is left out of the table, and the table names none that is not there."""
    assert sorted(LAYER) == sorted(MODULES)


@pytest.mark.parametrize("name", list(MODULES))
def test_a_module_imports_only_from_below(name: str) -> None:
    """From a strictly lower layer, in functions as at the top: so there is no circle, and none hides in a function."""
    assert {module for module in _ours(name) if LAYER[module] >= LAYER[name]} == set()


def test_nothing_is_imported_by_a_name_made_up_at_run_time() -> None:
    """An import that cannot be read here would make the table worth nothing."""
    for name, tree in TREES.items():
        called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
        words = {
            function.id if isinstance(function, ast.Name) else getattr(function, "attr", "") for function in called
        }
        assert not {"__import__", "import_module", "exec", "eval"} & words, name


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_are_pure(name: str) -> None:
    """The moment and bytes come in as arguments: no clock, no files of the system, no process, no thread."""
    assert not {module.partition(".")[0] for module in _imports(name)} & IMPURE
    assert _ours(name) <= {*PURE, "__init__"}
    opened = [
        node
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("open", "input", "print")
    ]
    assert opened == []


@pytest.mark.parametrize("name", list(MODULES))
def test_only_chosen_packages_are_imported(name: str) -> None:
    """Each dependency is paid for on a camera: four are chosen, and each has its place."""
    for module in _imports(name):
        top = module.partition(".")[0]
        if top in sys.stdlib_module_names or top == "yiagent":
            continue
        assert top in THIRD_PARTY, f"{name} imports {module}"
        users = THIRD_PARTY[top]
        assert users is None or name in users, f"{name} imports {module}: that is for {users}"


def _texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every text of a module that is no docstring, with its line."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


@pytest.mark.parametrize("name", [name for name in MODULES if name != "topics"])
def test_topics_stand_in_one_module(name: str) -> None:
    """All wire names live in `topics`: a topic elsewhere is a bug, for it is not found when the contract changes."""
    assert [(line, text) for line, text in _texts(TREES[name]) if TOPIC.fullmatch(text)] == []


def test_topics_are_known_when_seen() -> None:
    """The pattern above finds what stands in `topics`, and takes no word or path of another kind for it."""
    assert any(TOPIC.fullmatch(text) for _, text in _texts(TREES["topics"]))
    for topic in ("stream/set", "/set", "availability", "yiagent/x/state", "/telemetry", "+/set", "yiagent/#", "log/x"):
        assert TOPIC.fullmatch(topic), topic
    for text in (
        "state",
        "rtmp://host/app/key",
        "/var/lib/yiagent",
        "the log has its last lines",
        "source.hd",
        "/settings",
        "/api/state",
    ):
        assert not TOPIC.fullmatch(text), text
