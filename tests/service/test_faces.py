"""Faces in the server: which detector it takes, and what it says where there is none."""

from __future__ import annotations

import io
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import toy_bundle
from PIL import Image

from emotrace_models.bundle import Bundle
from emotrace_models.encoders.compact_face import CompactFace, CompactFaceConfig, FaceState
from emotrace_models.encoders.face_cascade import FaceCascade
from emotrace_models.encoders.faces import UltraFace, YuNet
from emotrace_models.predictor import Predictor
from emotrace_models.types import Frame, Modality, Utterance
from emotrace_models.weights import load_lock
from emotrace_protocol.messages import AudioFormat, SessionStart, Transcription
from emotrace_service.errors import StartRefused
from emotrace_service.face_detection import load_face_detector
from emotrace_service.loading import load_bundles
from emotrace_service.opening import modality_status, plan_session
from emotrace_service.settings import Settings

DETECTORS = Path("../shared/data/weights")
FILES = {"yunet": "yunet_n_dynamic.onnx", "ultraface": "ultraface_RFB-320.onnx"}
SEEING = (Modality.ACOUSTIC, Modality.LEXICAL, Modality.FACIAL)

needs_detectors = pytest.mark.skipif(
    not DETECTORS.is_dir(), reason="the detectors' files are not there"
)


def pulled(name: str, root: Path) -> None:
    (file,) = load_lock()[name].files
    (root / name).mkdir(parents=True)
    shutil.copy(DETECTORS / FILES[name], root / name / file.name)


@needs_detectors
def test_what_was_pulled_is_taken_and_may_be_chosen(tmp_path: Path) -> None:
    assert load_face_detector("auto", tmp_path) is None
    pulled("ultraface", tmp_path)
    assert isinstance(load_face_detector("auto", tmp_path), UltraFace)
    pulled("yunet", tmp_path)
    assert isinstance(load_face_detector("auto", tmp_path), YuNet)
    assert isinstance(load_face_detector("ultraface", tmp_path), UltraFace)
    assert load_face_detector("none", tmp_path) is None


def test_a_detector_that_is_not_there_or_none_refuses_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match=r"models pull yunet.*--face-detector none"):
        load_face_detector("yunet", tmp_path)
    with pytest.raises(StartRefused, match="there are ultraface, yunet"):
        load_face_detector("whisper-base", tmp_path)


@needs_detectors
def test_every_bundle_that_sees_gets_it(tmp_path: Path) -> None:
    pulled("yunet", tmp_path / "weights")
    toy = Bundle.load(toy_bundle(tmp_path / "toy", SEEING))
    camera = CompactFace(CompactFaceConfig(16, widths=(4, 8), blocks=(1, 1)))
    replace(toy, encoders=(*toy.encoders[:2], camera)).save(tmp_path / "camera")
    for name, kind in (("auto", YuNet), ("none", FaceCascade)):
        bundles = load_bundles(
            Settings(
                bundle=str(tmp_path / "camera"), weights=tmp_path / "weights", face_detector=name
            )
        )
        (bundle,) = bundles.values()
        assert isinstance(bundle.encoders[2]._detector, kind)  # type: ignore[attr-defined]


def test_without_opencv_faces_are_off_with_the_cure_and_all_else_is_live(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    toy = Bundle.load(toy_bundle(tmp_path / "toy", SEEING))
    start = SessionStart(audio=AudioFormat(), transcription=Transcription.CLIENT)
    live = plan_session(start, {"toy": toy}, Settings(), transcribes=False)
    assert live.pictures
    assert all(status.live for status in live.modalities)

    monkeypatch.setitem(sys.modules, "cv2", None)
    camera = CompactFace(CompactFaceConfig(16, widths=(4, 8), blocks=(1, 1)))
    blind = replace(toy, encoders=(*toy.encoders[:2], camera))
    statuses = {
        status.modality: status
        for status in modality_status(blind, Transcription.CLIENT, transcribes=False)
    }
    assert not statuses["facial"].live
    assert "opencv-python-headless" in (statuses["facial"].reason or "")
    assert statuses["acoustic"].live
    assert statuses["lexical"].live
    assert not plan_session(start, {"toy": blind}, Settings(), transcribes=False).pictures


def picture(shade: int) -> bytes:
    levels = np.linspace(0, shade, 48 * 48).astype(np.uint8).reshape(48, 48)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "JPEG")
    return file.getvalue()


def test_an_estimate_rests_on_a_face_where_there_is_one_and_tells_what_was_seen(
    tmp_path: Path,
) -> None:
    predictor = Predictor(Bundle.load(toy_bundle(tmp_path / "toy", SEEING)))
    sound = np.random.default_rng(1).normal(0, 0.1, 16_000).astype(np.float32)
    state = predictor.start()
    used = []
    for number, frames in enumerate(((Frame(0, picture(200)),), (Frame(0, b"none"),), ())):
        utterance = Utterance(number, "A", 0, 16_000, sound, frames=frames)
        ((state, outcome),) = predictor.predict([(state, utterance)])
        used.append(outcome.prediction.used)
        assert np.isfinite(outcome.prediction.logits).all()
        seen = state.speakers["facial", "A"]
        assert isinstance(seen, FaceState)
        assert seen.sight.looked_at == len(frames)
    assert used == [
        (Modality.ACOUSTIC, Modality.FACIAL),
        (Modality.ACOUSTIC,),
        (Modality.ACOUSTIC,),
    ]
