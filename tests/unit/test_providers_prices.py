"""What answers cost: by tokens, by seconds, by the hour of the day, and never by guessing."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trax_ray.providers import deepseek_prices, openai_models
from trax_ray.providers.deepseek_prices import is_peak
from trax_ray.providers.openai_models import SHUTDOWNS
from trax_ray.providers.prices import NO_PRICES, PriceList

LISTS = (openai_models.PRICES, deepseek_prices.PRICES)
MODELS = sorted(model for prices in LISTS for model in prices.rows)

MONDAY = datetime(2026, 11, 16, tzinfo=timezone.utc)
OFF_PEAK = MONDAY.replace(hour=12).timestamp()
PEAK = MONDAY.replace(hour=7).timestamp()

TOKENS = {
    "type": "tokens",
    "input_tokens": 700,
    "output_tokens": 200,
    "total_tokens": 900,
    "input_token_details": {"text_tokens": 100, "audio_tokens": 600},
}


def prices_of(model: str) -> PriceList:
    """The list that has a model."""
    (found,) = [prices for prices in LISTS if prices.price_of(model)]
    return found


def cost_usd(model: str, usage: Any, duration_s: float | None, at: float) -> float | None:
    return prices_of(model).cost_usd(model, usage, duration_s, at)


def estimate_usd(model: str, duration_s: float) -> float | None:
    return prices_of(model).estimate_usd(model, duration_s)


CHAT = {
    "prompt_tokens": 3000,
    "completion_tokens": 1000,
    "total_tokens": 4000,
    "prompt_cache_hit_tokens": 2000,
    "prompt_cache_miss_tokens": 1000,
}


def test_by_the_minute() -> None:
    assert cost_usd("gpt-transcribe", None, 600, OFF_PEAK) == pytest.approx(0.045)
    assert cost_usd("whisper-1", {"type": "duration", "seconds": 30}, 999, OFF_PEAK) == pytest.approx(0.003)
    assert cost_usd("gpt-transcribe", TOKENS, 60, OFF_PEAK) == pytest.approx(0.0045), "it isn't charged by tokens"


def test_by_tokens_of_audio_and_text() -> None:
    assert cost_usd("gpt-4o-transcribe", TOKENS, 60, OFF_PEAK) == pytest.approx((600 * 6 + 100 * 2.5 + 200 * 10) / 1e6)
    assert cost_usd("gpt-4o-mini-transcribe", TOKENS, 60, OFF_PEAK) == pytest.approx(
        (600 * 3 + 100 * 1.25 + 200 * 5) / 1e6
    )
    assert cost_usd("gpt-4o-transcribe-diarize", TOKENS, None, OFF_PEAK) == cost_usd(
        "gpt-4o-transcribe", TOKENS, None, OFF_PEAK
    )


def test_tokens_of_which_the_kind_isn_t_said_are_audio() -> None:
    bare = {name: count for name, count in TOKENS.items() if name != "input_token_details"}
    assert cost_usd("gpt-4o-transcribe", bare, None, OFF_PEAK) == pytest.approx((700 * 6 + 200 * 10) / 1e6)


def test_chat_by_what_was_in_the_cache_and_by_the_hour() -> None:
    assert cost_usd("deepseek-flash", CHAT, None, OFF_PEAK) == pytest.approx(
        (2000 * 0.003 + 1000 * 0.15 + 1000 * 0.60) / 1e6
    )
    assert cost_usd("deepseek-v4-pro", CHAT, None, OFF_PEAK) == pytest.approx(
        (2000 * 0.022 + 1000 * 0.66 + 1000 * 1.98) / 1e6
    )
    for model in ("deepseek-flash", "deepseek-v4-flash", "deepseek-v4-pro"):
        off_peak = cost_usd(model, CHAT, None, OFF_PEAK)
        assert off_peak is not None
        assert cost_usd(model, CHAT, None, PEAK) == pytest.approx(2 * off_peak)
    details = {
        "prompt_tokens": 3000,
        "completion_tokens": 1000,
        "prompt_tokens_details": {"cached_tokens": 2000},
    }
    assert cost_usd("deepseek-flash", details, None, PEAK) == cost_usd("deepseek-flash", CHAT, None, PEAK)


def test_peak_is_seven_hours_on_five_days() -> None:
    week = [MONDAY + timedelta(minutes=30 * step) for step in range(7 * 48)]
    peak = [when for when in week if is_peak(when.timestamp())]
    assert len(peak) == 7 * 5 * 2
    assert {when.hour for when in peak} == {1, 2, 3, 6, 7, 8, 9}
    assert {when.weekday() for when in peak} == {0, 1, 2, 3, 4}
    just_before = (MONDAY.replace(hour=1) - timedelta(milliseconds=1)).timestamp()
    assert not is_peak(just_before)
    assert is_peak(MONDAY.replace(hour=1).timestamp())
    assert not is_peak(MONDAY.replace(hour=4).timestamp())


@pytest.mark.parametrize("model", ["", "whisper-large-v3", "gpt-4o", "GPT-TRANSCRIBE", "my-own", "pocketsphinx"])
def test_a_model_that_isn_t_in_the_table_has_no_price(model: str) -> None:
    for prices in (*LISTS, NO_PRICES):
        assert prices.cost_usd(model, TOKENS, 60, OFF_PEAK) is None
        assert prices.estimate_usd(model, 60) is None


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"type": "tokens"},
        {"type": "duration", "seconds": None},
        {"type": "duration", "seconds": -1},
        {"type": "duration", "seconds": "30"},
        {"input_tokens": 10},
        {"input_tokens": math.nan, "output_tokens": 1},
        {"input_tokens": True, "output_tokens": False},
        {"input_tokens": [1], "output_tokens": {}},
        "nonsense",
    ],
)
def test_where_the_usage_says_nothing_the_duration_counts(usage: Any) -> None:
    assert cost_usd("gpt-4o-transcribe", usage, 60, OFF_PEAK) == pytest.approx(0.006)
    assert cost_usd("gpt-4o-transcribe", usage, None, OFF_PEAK) is None
    assert cost_usd("deepseek-flash", usage, 60, OFF_PEAK) is None, "it isn't charged by the minute"


def test_an_estimate_is_near_what_it_comes_to_with_ten_audio_tokens_a_second() -> None:
    assert estimate_usd("gpt-transcribe", 600) == pytest.approx(0.045)
    ten_minutes = {"input_tokens": 6000, "output_tokens": 2000}
    estimate, cost = estimate_usd("gpt-4o-transcribe", 600), cost_usd("gpt-4o-transcribe", ten_minutes, None, OFF_PEAK)
    assert estimate is not None
    assert cost is not None
    assert cost < estimate < 1.2 * cost
    chat = {"prompt_tokens": 3000, "completion_tokens": 2000}
    estimate, cost = estimate_usd("deepseek-flash", 600), cost_usd("deepseek-flash", chat, None, PEAK)
    assert estimate is not None
    assert cost is not None
    assert cost < estimate < 1.5 * cost


counts = st.integers(0, 10**7) | st.floats() | st.none() | st.text(max_size=3)


@given(
    st.sampled_from(MODELS),
    st.dictionaries(
        st.sampled_from([*TOKENS, *CHAT, "seconds", "prompt_tokens_details"]),
        counts | st.dictionaries(st.sampled_from(["text_tokens", "audio_tokens", "cached_tokens"]), counts),
    ),
    st.none() | st.floats(),
    st.floats(0, 4e9),
)
def test_whatever_a_server_says_a_cost_is_a_number_from_zero_or_none(
    model: str, usage: dict[str, Any], duration_s: float | None, at: float
) -> None:
    cost = cost_usd(model, usage, duration_s, at)
    assert cost is None or cost >= 0


def test_the_table_has_a_date_and_prices_above_zero() -> None:
    assert all(prices.as_of.year >= 2026 for prices in LISTS)
    for price in [price for prices in LISTS for price in prices.rows.values()]:
        assert price.minute or (price.text_input and price.output)
        assert price.cached_input is None or price.text_input is None or price.cached_input < price.text_input


def test_successors_of_models_that_are_shut_down_have_a_price() -> None:
    assert {shutdown.successor for shutdown in SHUTDOWNS} <= set(openai_models.PRICES.rows)


@pytest.mark.parametrize(
    ("base_url", "limited", "of"),
    [
        ("", False, "openai deepseek"),
        ("", True, "openai deepseek"),
        ("https://api.openai.com/v1", False, "openai"),
        ("https://eu.api.openai.com/v1", False, "openai"),
        ("https://api.deepseek.com", False, "deepseek"),
        ("http://127.0.0.1:8000/v1", False, ""),
        ("https://notopenai.com/v1", False, ""),
        ("https://gateway.example/openai.com", False, ""),
        ("https://gateway.example/v1", True, "openai deepseek"),
    ],
)
def test_prices_hold_where_the_maker_answers_or_a_user_limits_what_is_spent(
    base_url: str, limited: bool, of: str
) -> None:
    for name, prices in zip(("openai", "deepseek"), LISTS, strict=True):
        assert prices.hold(base_url, limited=limited) is (name in of.split())


def test_a_model_with_a_date_costs_what_it_costs_without() -> None:
    dated = "gpt-4o-mini-transcribe-2025-12-15"
    assert cost_usd(dated, TOKENS, None, OFF_PEAK) == cost_usd("gpt-4o-mini-transcribe", TOKENS, None, OFF_PEAK)
    assert estimate_usd(dated, 60) == 0.003
    assert openai_models.PRICES.estimate_usd("whisper-1-large", 60) is None
