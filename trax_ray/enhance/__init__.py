"""What an enhanced transcript may differ in: windows, prompts, answers, gates. No Ray, no network.

    segments -> windows.plan_windows -> prompts.messages -> (a chat service) -> answers.read_answer -> edits.apply

A model gives edits and never a text. `edits.apply` puts in those that pass the gates and refuses the others, so a
segment can neither vanish nor appear, its times stay, and what was said stays what was said.
"""
