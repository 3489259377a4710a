"""More answers that would change what was said: by form, by signs, by twins of words, by what is no answer at all."""

# ruff: noqa: RUF001

from __future__ import annotations

import json

import pytest

from trax_ray.enhance.answers import read_answer
from trax_ray.enhance.edits import Applied, Edit, apply
from trax_ray.enhance.glossary import Glossary
from trax_ray.enhance.tokens import tokens
from trax_ray.enhance.windows import Doubt, Window, WindowSegment


def given(
    text: str, before: str, after: str, level: str, language: str = "en", terms: tuple[str, ...] = (), **how: bool
) -> Applied:
    """What becomes of one edit of one segment, in which each word was doubted."""
    doubts = tuple(Doubt(token.start, token.end) for token in tokens(text, language))
    window = Window(0, (WindowSegment(1, text, 0.0, 1.0, doubts, language),))
    return apply(window, [Edit(1, before, after)], level=level, glossary=Glossary(terms), **how)


ALL = "so in the end we sold all of it to the bank"

BY_FORM = {
    "pronoun as a country": ("they told us so", "told us", "told US", "casing"),
    "word as a department": ("they knew it well", "knew it", "knew IT", "casing"),
    "word shouted": ("we did not sell", "did not", "did NOT", "casing"),
    "every other letter": ("so nobody knew", "nobody knew", "nObOdY kNeW", "casing"),
    "capital within a little word": ("so in the end", "in the", "iN tHe", "casing"),
    "headline": (ALL, ALL, ALL.title(), "casing"),
    "full-width letters": ("nobody knew when", "knew", "ｋｎｅｗ", "lookalikes"),
    "full-width digits": ("it was 25 boats", "25", "２５", "lookalikes"),
    "words joined by full stops": ("the train left late", "the train left late", "the.train.left.late", "spacing"),
    "words joined by commas": ("the train left late", "the train left late", "the,train,left,late", "spacing"),
    "link out of words": ("we saw boats yesterday com", "yesterday com", "yesterday.com", "spacing"),
    "words joined by a quotation mark": ("the train left", "the train", 'the"train', "spacing"),
    "each word a sentence": (ALL, ALL, " ".join(f"{word}." for word in ALL.split()), "punctuation"),
    "each word an outcry": (ALL, ALL, " ".join(f"{word}!" for word in ALL.split()), "punctuation"),
}

BY_NUMBER = {
    "pronoun as a digit": ("no one knew", "no one", "no 1", "en"),
    "pronoun of some as a digit": ("one of them knew", "one of", "1 of", "en"),
    "moment as an ordinal": ("wait a second please", "a second", "a 2nd", "en"),
    "weight as money": ("it weighs five pounds", "five pounds", "£5", "en"),
    "sign without a number": ("we need dollars now", "need dollars", "need $", "en"),
    "percent without a number": ("what percent of it", "what percent", "what %", "en"),
    "two numbers grown together": ("rooms 3 5 and 6", "3 5", "35", "en"),
    "one number taken apart": ("room 35 and 6", "35", "3 5", "en"),
    "range as one number": ("pages 3-5", "3-5", "35", "en"),
    "number cut at its and": ("a hundred and five people", "a hundred and five", "100 and 5", "en"),
    "year cut at its and": ("in two thousand and twenty", "two thousand and twenty", "2000 and 20", "en"),
    "number cut before its and": ("a hundred and five people", "a hundred", "100", "en"),
    "apostrophe in a number": ("4500 boats", "4500", "4'500", "en"),
    "article as a digit": ("un homme est venu", "un homme", "1 homme", "fr"),
    "new as nine": ("un livre neuf", "neuf", "9", "fr"),
    "Spanish article as a digit": ("una casa", "una", "1", "es"),
    "letter o for a zero": ("in 2005 it was", "2005", "2OO5", "en"),
}

BY_TWIN = {
    # Only at level `words`: what was doubted, what a model puts there that sounds like it, and the gate.
    "another unit": ("five meters of it", "meters", "liters", "number"),
    "another day": ("on monday we left", "monday", "sunday", "number"),
    "increase to decrease": ("an increase of it", "increase", "decrease", "negation"),
    "too much to too little": ("he has hypertension", "hypertension", "hypotension", "negation"),
    "inflation to deflation": ("the inflation of it", "inflation", "deflation", "negation"),
    "who pays to who is paid": ("the employer said so", "employer", "employee", "negation"),
    "inside to outside": ("the internal one", "internal", "external", "negation"),
    "up to down": ("now we ascend", "ascend", "descend", "negation"),
    "too high to too low": ("we overestimate it", "overestimate", "underestimate", "negation"),
    "inter to intra": ("an intervenous one", "intervenous", "intravenous", "negation"),
    "might to must": ("we might go", "might", "must", "sound"),
    "could to would": ("we could go", "could", "would", "sound"),
    "short form lost": ("it s late", "it s", "its", "grammar"),
    "will lost": ("i ll go", "i ll", "ill", "grammar"),
    "verb to hour": ("i am here", "am", "a.m.", "grammar"),
    "dotless i": ("we saw something there", "something", "somethıng", "lookalikes"),
    "g of phoneticians": ("we saw something there", "something", "somethinɡ", "lookalikes"),
    "above to below in French": ("au dessus de nous", "dessus", "dessous", "negation"),
}


@pytest.mark.parametrize("level", ["format", "words"])
@pytest.mark.parametrize("kind", BY_FORM)
def test_the_same_words_in_a_form_that_nobody_would_write(kind: str, level: str) -> None:
    text, before, after, gate = BY_FORM[kind]
    applied = given(text, before, after, level)
    assert (applied.segments[0].text, applied.refused_by_gate) == (text, {gate: 1})


@pytest.mark.parametrize("level", ["format", "words"])
@pytest.mark.parametrize("kind", BY_NUMBER)
def test_what_says_a_number_only_by_its_looks(kind: str, level: str) -> None:
    text, before, after, language = BY_NUMBER[kind]
    applied = given(text, before, after, level, language)
    assert applied.segments[0].text == text
    assert applied.refused_by_gate


@pytest.mark.parametrize("kind", BY_TWIN)
def test_a_doubted_words_twin_that_turns_what_was_said(kind: str) -> None:
    text, before, after, gate = BY_TWIN[kind]
    applied = given(text, before, after, "words", "fr" if "French" in kind else "en")
    assert (applied.segments[0].text, applied.refused_by_gate) == (text, {gate: 1})
    assert given(text, before, after, "format").segments[0].text == text


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("uh huh i saw it", "uh huh i", "Huh, I"),
        ("did you see it uh uh", "it uh uh", "it?"),
        ("did you agree mm hmm", "agree mm hmm", "agree?"),
        ("did you agree mhm", "agree mhm", "agree?"),
        ("she works in the ER today", "the ER today", "the today"),
    ],
)
def test_answers_and_names_are_no_hesitation(text: str, before: str, after: str) -> None:
    assert given(text, before, after, "format", remove_fillers=True).segments[0].text == text


@pytest.mark.parametrize(
    ("text", "before", "after", "terms"),
    [
        ("part 123456 broke", "123456", "123457", ("123457",)),
        ("we run windows 10 now", "windows 10", "Windows 11", ("Windows 11",)),
        ("it is a i think", "a i", "AI", ()),
        ("he got a b in maths", "a b", "AB", ()),
        ("i m late", "i m", "IM", ()),
    ],
)
def test_digits_of_terms_and_letters_that_are_words(text: str, before: str, after: str, terms: tuple[str, ...]) -> None:
    assert given(text, before, after, "words", terms=terms).segments[0].text == text


NO_ANSWER = {
    "thoughts that never end": ('<think>{"edits":[{"segment":1,"from":"so","to":"No"}]}', "no_json"),
    "thoughts that never began": ('say {"edits":[{"segment":1,"from":"so","to":"No"}]}? no.</think>', "no_json"),
    "thoughts under another name": ('<reasoning>{"edits":[]}</reasoning> I would rather not.', "no_json"),
    "nested without an end that anybody reads": ('{"edits":' + "[" * 900 + "]" * 900 + "}", "wrong_json"),
    "a number without end": ('{"edits":[{"segment":1e999,"from":"so","to":"So"}]}', "wrong_shape"),
    "five thousand digits": ('{"edits":[{"segment":' + "9" * 5000 + ',"from":"so","to":"So"}]}', "wrong_json"),
    "an answer in an answer": (json.dumps({"edits": json.dumps([])}), "wrong_shape"),
    "a call of a tool": ('{"name":"edit","arguments":{"edits":[]}}', "wrong_shape"),
    "a line for each edit": ('{"segment":1,"from":"a","to":"b"}\n{"segment":2,"from":"a","to":"b"}', "two_answers"),
    "a page of a proxy": ("<html><style>a{color:red}</style></html>", "wrong_json"),
    "digits of another script": ('{"edits":[{"segment":"١","from":"so","to":"So"}]}', "wrong_shape"),
    "one edit without its list": ('{"segment":1,"from":"so","to":"So"}', "wrong_shape"),
}


@pytest.mark.parametrize("kind", NO_ANSWER)
def test_what_is_no_answer_isnt_taken_for_one(kind: str) -> None:
    text, problem = NO_ANSWER[kind]
    assert read_answer(text).problem == problem


def test_an_answer_behind_thoughts_is_the_answer() -> None:
    edit = '{"edits":[{"segment":1,"from":"so","to":"So"}]}'
    for thoughts in (
        "<thought>maybe {}</thought>",
        'or {"edits":[]}? hm</think>\n',
        "<think>{</think><reasoning>[</reasoning>",
    ):
        answer = read_answer(thoughts + edit)
        assert (answer.problem, answer.repairs, len(answer.edits)) == (None, ("thinking",), 1)
    assert read_answer(edit + "<think>or not").edits


@pytest.mark.parametrize(
    ("language", "before", "after"),
    [
        ("en", "in the us they know", "In the US, they know"),
        ("en", "at 5 am we left", "At 5 AM, we left"),
        ("en", "my iphone and youtube", "My iPhone and YouTube"),
        ("en", "the lord of the rings", "The Lord of the Rings"),
        ("en", "between twenty five and thirty", "Between 25 and 30"),
        ("en", "five and twenty five", "5 and 25"),
        ("en", "between one and two hundred", "Between 1 and 200"),
        ("en", "chapter one", "Chapter 1"),
        ("en", "one percent", "1%"),
        ("en", "£5", "five pounds"),
        ("en", "a hundred and five people", "105 people"),
        ("en", "no stop go yes", "No. Stop. Go. Yes."),
        ("en", "well so we left", "Well... so—we left"),
        ("en", "an a p i on t v", "an API on TV"),
        ("en", "at 5 p m and later", "at 5 p.m. and later"),
        ("de", "die fünf und die sechs", "Die 5 und die 6"),
        ("de", "wissen sie ob sie es tun", "Wissen Sie, ob Sie es tun?"),
        ("ja", "これはペンですか", "これは、ペンですか？"),
    ],
)
def test_what_a_reader_wants_still_passes(language: str, before: str, after: str) -> None:
    applied = given(before, before, after, "format", language)
    assert [each.reason for each in applied.refused] == []
    assert applied.segments[0].text == after


def test_there_are_enough_kinds() -> None:
    assert len(BY_FORM) + len(BY_NUMBER) + len(BY_TWIN) + len(NO_ANSWER) >= 30
