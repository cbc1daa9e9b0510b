"""Files that people have: pickled weights, repositories of the hub, other tokenizers; and folders that are refused."""

import contextlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import termios
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast, SiglipImageProcessorPil
from zoo import make_model

from mmel_cli import load_archive
from mmel_cli.errors import ModelError
from mmel_cli.model import BUILTIN, FAMILIES, load_model
from mmel_cli.model.adapter import BUILTIN_FOLDER


def refused(folder):
    with pytest.raises(ModelError) as caught:
        load_model(str(folder), "cpu", "float32")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return {family: make_model(folder / family, family) for family in ("clip", "siglip", "altclip", "chinese_clip")}


def edit(folder, file, change):
    content = json.loads((folder / file).read_text())
    change(content)
    (folder / file).write_text(json.dumps(content))


def tensors(folder, change):
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})


def without(folder, *patterns):
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink()


def other_type(name):
    return lambda folder: edit(folder, "config.json", lambda c: c.update(model_type=name))


def no_head(folder):
    edit(folder, "config.json", lambda c: c["vision_config"].update(vision_use_head=False))
    tensors(folder, lambda all_: {name: t for name, t in all_.items() if ".head." not in name or "text" in name})


def untemplated(folder):
    edit(folder, "tokenizer.json", lambda c: c.update(post_processor=None))


def malicious(folder):
    without(folder, "model.safetensors")

    class Harmful:
        def __reduce__(self):
            return (open, (str(folder / "written"), "w"))

    torch.save({"logit_scale": Harmful()}, folder / "pytorch_model.bin")


REFUSED = {
    "no text tower": ("clip", lambda f: tensors(f, lambda h: {n: t for n, t in h.items() if "text_model" not in n}),
        "tensors are missing (text_model.embeddings.position_embedding.weight, "),
    "a tensor left over": ("siglip", lambda f: tensors(f, lambda h: h | {"adapter.weight": torch.zeros(2)}),
        "1 of its tensors is unknown (adapter.weight)"),
    "a tensor of another shape": ("siglip",
        lambda f: tensors(f, lambda h: h | {"vision_model.head.probe": torch.zeros(1, 1, 7)}),
        "1 of its tensors is of another shape (vision_model.head.probe is (1, 1, 7) instead of (1, 1, 32))"),
    "no tokenizer": ("siglip", lambda f: without(f, "tokenizer*", "*.model"), "no tokenizer files"),
    "a larger tokenizer": ("altclip",
        lambda f: edit(f, "config.json", lambda c: c["text_config"].update(vocab_size=9)), "of another shape"),
    "a tokenizer without a start": ("chinese_clip", untemplated, "has no start token, which its text tower pools"),
    "captions cut on the left": ("siglip",
        lambda f: edit(f, "tokenizer_config.json", lambda c: c.update(truncation_side="left")),
        "cuts long captions on the left (truncation_side in tokenizer_config.json)"),
    "captions padded to another length": ("siglip",
        lambda f: edit(f, "tokenizer_config.json", lambda c: c.update(model_max_length=10)),
        "pads captions to 10 tokens (model_max_length), its text tower has 23 positions"),
    "no room for a caption": ("clip",
        lambda f: edit(f, "tokenizer_config.json", lambda c: c.update(model_max_length=2)), "no room for a caption"),
    "another model's processor": ("clip", lambda f: SiglipImageProcessorPil().save_pretrained(f),
        "declares the image processor SiglipImageProcessor; clip models need one of CLIPImageProcessor"),
    "no processor": ("siglip", lambda f: without(f, "*processor_config.json"), "no preprocessor_config.json"),
    "naflex": ("siglip", other_type("siglip2"), "its type is 'siglip2'; mmel explains the types clip, metaclip_2"),
    "owlvit": ("clip", other_type("owlvit"), "its type is 'owlvit'; mmel explains"),
    "x_clip": ("clip", other_type("xclip"), "its type is 'xclip'; mmel explains"),
    "no pooling head": ("siglip", no_head, "no pooling head (vision_use_head)"),
    "no weights": ("clip", lambda f: without(f, "model.safetensors"), "no weights (model.safetensors or"),
    "a pickle that runs code": ("clip", malicious,
        "its pytorch_model.bin cannot be loaded by its config.json, is damaged, or holds more than tensors; give"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(made, tmp_path, name):
    family, damage, says = REFUSED[name]
    folder = tmp_path / "m"
    shutil.copytree(made[family], folder)
    damage(folder)
    assert says in refused(folder)
    assert not (folder / "written").exists()


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_pickled_weights_are_those_of_safetensors(made, tmp_path, family):
    folder = tmp_path / "m"
    shutil.copytree(made[family], folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert (
        load_model(str(folder), "cpu", "float32").spec.files
        == load_model(str(made[family]), "cpu", "float32").spec.files
    )


def test_every_family_has_its_type():
    assert set(FAMILIES) >= {"clip", "metaclip_2", "altclip", "chinese_clip", "siglip"}


def whole_words(folder):
    """The builtin model with a tokenizer of whole words in place of its own: the same ids, read by another class."""
    shutil.copytree(BUILTIN_FOLDER, folder)
    own = AutoTokenizer.from_pretrained(BUILTIN_FOLDER)
    words = {token.removesuffix("</w>"): number for token, number in own.get_vocab().items() if token.endswith("</w>")}
    start, end = own.bos_token, own.eos_token
    numbers = {start: own.bos_token_id, end: own.eos_token_id}
    free = sorted({*range(len(own))} - {*words.values(), *numbers.values()})
    backend = Tokenizer(WordLevel(words | numbers | {"<unk>": free[0], "<pad>": free[1]}, "<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    backend.post_processor = TemplateProcessing(f"{start} $A {end}", special_tokens=list(numbers.items()))
    special = {"bos_token": start, "eos_token": end, "unk_token": "<unk>", "pad_token": "<pad>"}
    for path in folder.glob("tokenizer*"):
        path.unlink()
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=32, **special).save_pretrained(folder)
    return folder


def test_a_word_level_tokenizer_on_the_builtin_vision_tower_finds_known_words(tmp_path, mmel):
    """Were its words read as unknown, scores and regions would be those of nothing."""
    folder = whole_words(tmp_path / "m")
    assert mmel("scenes", tmp_path / "in", "--count", 9, "--split", "test")[0] == 0
    archives = []
    for name, model in (("own", BUILTIN), ("words", folder)):
        command = ["explain", tmp_path / "in", "--out", tmp_path / name, "--model", model, "--set", "heatmaps=false"]
        code, _, err = mmel(*command, "--weights", "untrained", "--batch-size", 7)
        assert code == 0, err
        archives.append(load_archive(tmp_path / name))
    with archives[0] as own, archives[1] as words:
        assert own.ids == words.ids
        for record in own:
            other = words[record.id]
            assert other.score == pytest.approx(record.score, abs=1e-6)
            torch.testing.assert_close(torch.tensor(other.map), torch.tensor(record.map), rtol=1e-4, atol=1e-6)
    code, out, err = mmel("eval", tmp_path / "words", "--metrics", "pointing-game", "--json")
    assert code == 0, err
    assert json.loads(out)["metrics"]["pointing-game"]["runs"]["words"]["mean"] > 0.6


def test_a_vocabulary_that_holds_special_tokens_as_words_reads_them_as_unknown(tmp_path):
    """A caption that spells the end is text: what comes behind it is read, and nothing is cut."""
    folder = make_model(tmp_path / "m", "clip", "words")
    model = load_model(str(folder), "cpu", "float32")
    captions = model.tokenize(["a <|endoftext|> dog", "a dog", "a zebra dog"])
    assert captions.truncated.tolist() == [False, False, False]
    assert captions.tokens[0] == ("a", "<|endoftext|>", "dog")
    assert torch.equal(captions.ids[0], captions.ids[2])


class Hub(BaseHTTPRequestHandler):
    """Files of one repository, as the hub gives them."""

    folder = None

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        if self.path.startswith("/api/models/someone/tiny"):
            files = [p for p in self.folder.iterdir() if "/additional_chat_templates" not in self.path]
            about = {"id": "someone/tiny", "sha": "0" * 40, "siblings": [{"rfilename": p.name} for p in files]}
            tree = [{"type": "file", "path": p.name, "size": p.stat().st_size, "oid": "0" * 40} for p in files]
            return self.send(tree if "/tree/" in self.path else about, body=body)
        repository, _, file = self.path.replace("0" * 40, "main").partition("/resolve/main/")
        path = self.folder / file
        if repository != "/someone/tiny" or not path.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if repository == "/someone/tiny" else "RepoNotFound")
            self.end_headers()
            return None
        return self.send(path.read_bytes(), body=body, tag=file)

    def send(self, content, *, body, tag="api"):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(200)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{tag}-{len(content)}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(made, tmp_path):
    """A hub on this machine that holds someone/tiny, and a way to run code against it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHub", (Hub,), {"folder": made["clip"]}))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def run(*arguments, port=server.server_port, stderr=subprocess.PIPE):
        environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
        environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-m", "mmel_cli", *map(str, arguments)]
        return subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False, timeout=100
        )

    yield run
    server.shutdown()


def test_a_model_of_the_hub_is_downloaded_with_its_progress_in_a_terminal(hub, photos, tmp_path):
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (40, 100))
    said = []

    def listen():
        with contextlib.suppress(OSError):  # the other end is closed
            while part := os.read(terminal, 4096):
                said.append(part)

    listener = threading.Thread(target=listen)
    listener.start()
    command = ["explain", photos, "--out", tmp_path / "run", "--limit", 2, "--set", "heatmaps=false"]
    done = hub(*command, "--model", "someone/tiny", stderr=end)
    os.close(end)
    listener.join(20)
    os.close(terminal)
    said = b"".join(said).decode()
    assert done.returncode == 0, said
    assert "Downloading someone/tiny from the hub" in said
    assert re.search(r"model.safetensors: +100%|Fetching \d+ files: +100%", said)


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_name_that_the_hub_does_not_have_fails_at_once(hub, photos, tmp_path, more):
    done = hub("explain", photos, "--out", tmp_path / "run", "--model", "someone/nope", *more)
    assert done.returncode == 1
    assert "no such model on the hub" in done.stderr
    assert done.stderr.count("Error: ") == 1
    assert len(done.stderr.splitlines()) <= 2


@pytest.mark.parametrize("name", ["a/b/c", "./nope", "/nope/m", "no such name!"])
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_what_is_no_name_of_the_hub_is_not_looked_for(photos, tmp_path, mmel, name, more):
    code, _, err = mmel("explain", photos, "--out", tmp_path / "run", "--model", name, *more)
    assert code == 1
    assert f"model {name}: " in err
    assert "give a folder, a hub id, or builtin" in err


def test_a_hub_that_does_not_answer_is_one_line_without_retries(hub, photos, tmp_path):
    done = hub("explain", photos, "--out", tmp_path / "run", "--model", "someone/tiny", "--dry-run", port=9)
    assert done.returncode == 1
    assert "the hub does not answer" in done.stderr
    assert "Retry" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2


@pytest.mark.parametrize(
    ("family", "change"),
    [("siglip", {"padding_side": "left"}), ("clip", {"model_max_length": 9}), ("altclip", {"model_max_length": 9})],
)
def test_how_captions_are_padded_and_cut_is_part_of_the_tokenizers_sha256(made, photos, tmp_path, mmel, family, change):
    """Else one archive would hold two readings."""
    folder = tmp_path / "m"
    shutil.copytree(made[family], folder)
    before = load_model(str(folder), "cpu", "float32").spec.files
    command = ["explain", photos, "--out", tmp_path / "run", "--model", folder, "--set", "heatmaps=false"]
    assert mmel(*command, "--limit", 5)[0] == 0
    edit(folder, "tokenizer_config.json", lambda c: c.update(change))
    after = load_model(str(folder), "cpu", "float32").spec.files
    assert {role for role in before if before[role] != after[role]} == {"tokenizer"}
    code, _, err = mmel(*command)
    assert code == 2
    assert "tokenizer (SHA-256) was " in err


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_temperature_and_bias_do_not_depend_on_the_dtype(made, family):
    scoring = load_model(str(made[family]), "cpu", "float32").spec.scoring
    assert load_model(str(made[family]), "cpu", "bfloat16").spec.scoring == scoring
