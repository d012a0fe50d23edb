"""Realtime clients that end their utterances themselves, or take sound back."""

from __future__ import annotations

import asyncio

import pytest
from doubles import Stage
from realtime import QUIET, TRANSCRIPTION, TURN, realtime, silence, speech, update


async def test_a_client_commits_its_utterances_itself(stage: Stage) -> None:
    socket, _, task = realtime(stage, QUIET)
    socket.tell("session.update", session=update(turn_detection=None))
    updated = await socket.next("session.updated")
    assert updated["session"]["audio"]["input"]["turn_detection"] is None
    socket.append(speech(1.0) + silence(2.0) + speech(1.0))  # a pause is no end
    socket.tell("input_audio_buffer.commit")
    first = await socket.next("input_audio_buffer.committed")
    completed = await socket.next(f"{TRANSCRIPTION}.completed")
    assert completed["item_id"] == first["item_id"]
    assert completed["usage"]["seconds"] > 3.5
    socket.append(speech(1.0))
    socket.tell("input_audio_buffer.commit")
    second = await socket.next("input_audio_buffer.committed")
    assert second["previous_item_id"] == first["item_id"]
    await socket.next(f"{TRANSCRIPTION}.completed")
    socket.end()
    await asyncio.wait_for(task, 30)
    assert not [kind for kind in socket.kinds if "speech_" in kind]
    assert not socket.all("error")


@pytest.mark.parametrize("audio", [b"", silence(1.0)])
async def test_there_must_be_something_to_commit(stage: Stage, audio: bytes) -> None:
    socket, _, task = realtime(stage, QUIET)
    if audio:
        socket.append(audio)
    socket.tell("input_audio_buffer.commit", event_id="mine")
    error = (await socket.next("error"))["error"]
    assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "mine")
    socket.append(TURN)
    socket.end()
    await asyncio.wait_for(task, 30)
    assert len(socket.all(f"{TRANSCRIPTION}.completed")) == 1


async def test_a_commit_ends_an_utterance_before_its_silence_too(stage: Stage) -> None:
    socket, _, task = realtime(stage, QUIET)
    socket.append(speech(1.0))
    socket.tell("input_audio_buffer.commit")
    await socket.next("input_audio_buffer.speech_stopped")
    await socket.next(f"{TRANSCRIPTION}.completed")
    socket.vanish()
    await asyncio.wait_for(task, 30)
    assert not socket.all("error")


async def test_clearing_takes_back_silence_but_no_speech(stage: Stage) -> None:
    socket, _, task = realtime(stage, QUIET)
    socket.tell("input_audio_buffer.clear")
    await socket.next("input_audio_buffer.cleared")
    socket.append(silence(1.0))
    socket.tell("input_audio_buffer.clear")
    await socket.next("input_audio_buffer.cleared")
    socket.append(speech(1.0))
    socket.tell("input_audio_buffer.clear", event_id="too late")
    error = (await socket.next("error"))["error"]
    assert error["event_id"] == "too late"
    assert "cannot be taken back" in error["message"]
    socket.append(silence(0.8))
    socket.tell("input_audio_buffer.clear")
    await socket.next("input_audio_buffer.cleared")
    assert len(socket.all(f"{TRANSCRIPTION}.completed")) == 1
    socket.vanish()
    await asyncio.wait_for(task, 30)
