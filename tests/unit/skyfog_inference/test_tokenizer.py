from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tokenizers import Tokenizer as Backend
from tokenizers import models

from skyfog_core.errors import ConfigError, InvalidRequest
from skyfog_inference.models.chat import ChatTemplate, template_of
from skyfog_inference.models.config import ModelConfig
from skyfog_inference.models.tokenizer import BROKEN, Tokenizer, check_vocabulary
from support.vocabularies import BYTES, END, FALLBACK, bytes_backend, streamed


def test_a_character_comes_with_its_last_byte() -> None:
    assert streamed(BYTES, BYTES.encode("🤖!")) == ["", "", "", "🤖", "!", ""]


def test_what_stays_half_a_character_comes_at_the_end() -> None:
    assert streamed(BYTES, BYTES.encode("🤖")[:3]) == ["", "", "", BROKEN]


def test_bytes_that_never_become_text_are_let_go() -> None:
    lone = BYTES.id_of("Ã")  # the first byte of many characters
    assert lone is not None
    pieces = streamed(BYTES, [lone] * 500)
    assert sum(len(piece) for piece in pieces[:-1]) > 400
    assert "".join(pieces) == BROKEN * 500


@pytest.mark.parametrize("tokenizer", [BYTES, FALLBACK])
def test_bytes_of_tokens_put_together_are_the_texts(tokenizer: Tokenizer) -> None:
    for text in ("🤖a", "ébÃ", BROKEN, "a\0\n", "a¡"):
        assert b"".join(map(tokenizer.piece_bytes, tokenizer.encode(text))) == text.encode()
    assert BYTES.piece_bytes(BYTES.encode(END)[0]) == END.encode()


def test_a_token_that_goes_first_does_so_only_where_it_is_wanted() -> None:
    tokenizer = Tokenizer(bytes_backend(), first=7)
    assert tokenizer.encode("a")[0] == 7
    assert tokenizer.encode("a", special=False) == tokenizer.encode("a")[1:]


def test_half_a_surrogate_pair_is_the_requests_fault() -> None:
    with pytest.raises(InvalidRequest, match="prompt: holds half of a surrogate pair"):
        BYTES.encode("a\ud800")
    chat = Tokenizer(bytes_backend(), ChatTemplate(CHAT, {}, "x"))
    with pytest.raises(InvalidRequest, match="half of a surrogate pair"):
        chat.encode_chat([{"role": "user", "content": "\udc00"}])


def test_special_tokens_are_one_token_and_no_text() -> None:
    tokens = BYTES.encode(f"a{END}")
    assert len(tokens) == 2
    assert BYTES.decode(tokens) == "a"
    assert BYTES.piece(tokens[1]) == END


def test_another_models_tokenizer_is_refused() -> None:
    config = ModelConfig("small", "llama", 100, 8, 8, 1, 1, 1, 8, 8, 1e4, 1e-5, True)
    with pytest.raises(ConfigError, match="small has 100 tokens: the tokenizer belongs to another model"):
        check_vocabulary(bytes_backend(), config, "tokenizer.json")


@pytest.mark.parametrize(
    ("rows", "odd"),
    [(259, False), (384, False), (259 + 512, False), (259 + 513, True), (32_000, True)],
)
def test_a_tokenizer_far_smaller_than_the_embedding_is_logged(rows: int, odd: bool) -> None:
    config = ModelConfig("big", "llama", rows, 8, 8, 1, 1, 1, 8, 8, 1e4, 1e-5, True)
    with capture_logs() as seen:
        check_vocabulary(bytes_backend(), config, "m/tokenizer.json")
    assert [entry["event"] for entry in seen] == ["tokenizer_small"] * odd
    for entry in seen:
        assert (entry["log_level"], entry["tokens"], entry["embedding"]) == ("warning", 259, rows)


def test_a_tenth_of_the_embedding_may_be_without_tokens() -> None:
    config = ModelConfig("big", "llama", 10_000, 8, 8, 1, 1, 1, 8, 8, 1e4, 1e-5, True)
    with capture_logs() as seen:
        for size in (8_999, 9_000):
            pieces = {str(at): at for at in range(size)}
            check_vocabulary(Backend(models.WordLevel(pieces, "0")), config, "m/tokenizer.json")
    assert [entry["tokens"] for entry in seen] == [8_999]


CHAT = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'tool' %}{{ raise_exception('no tools') }}"
    "{% endif %}[{{ message.role }}]{{ message.content | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def test_a_conversation_is_written_as_the_template_says() -> None:
    chat = ChatTemplate(CHAT, {"bos_token": "<s>"}, "x")
    assert chat.render([{"role": "user", "content": " hi "}]) == "<s>[user]hi\n[assistant]"


def test_what_the_template_refuses_is_the_requests_fault() -> None:
    chat = ChatTemplate(CHAT, {}, "x")
    with pytest.raises(InvalidRequest, match="chat template refuses them: no tools"):
        chat.render([{"role": "tool", "content": "x"}])


def test_a_template_reaches_nothing_beyond_its_messages() -> None:
    chat = ChatTemplate("{{ messages.__class__.__mro__[1].__subclasses__() }}", {}, "x")
    with pytest.raises(InvalidRequest, match="unsafe"):
        chat.render([])


def test_what_is_no_template_is_the_models_fault() -> None:
    with pytest.raises(ConfigError, match="x: chat_template:"):
        ChatTemplate("{% for %}", {}, "x")


def test_a_model_without_a_template_says_so() -> None:
    with pytest.raises(InvalidRequest, match="no chat template"):
        BYTES.encode_chat([{"role": "user", "content": "hi"}])


def test_a_template_of_its_own_file_goes_before_the_key(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(
        '{"bos_token": {"content": "<s>"}, "chat_template": [{"name": "default", "template": "{{ bos_token }}key"}]}'
    )
    of_key = template_of(tmp_path)
    assert of_key is not None
    assert of_key.render([]) == "<s>key"
    (tmp_path / "chat_template.jinja").write_text("file")
    of_file = template_of(tmp_path)
    assert of_file is not None
    assert of_file.render([]) == "file"
