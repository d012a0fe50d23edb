"""Corpora in miniature, as their owners lay them out, with the traps of models.md 9.7."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import h5py
import numpy as np
import soundfile

LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 61132\n"
)


def tone(file: Path, seconds: float = 0.3, rate: int = 16_000, pitch: float = 220.0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(round(seconds * rate)) / rate
    soundfile.write(file, (0.1 * np.sin(2 * np.pi * pitch * t)).astype(np.float32), rate)
    return file


def film(
    file: Path, seconds: float = 0.4, sound: bool = True, size: tuple[int, int] = (48, 32)
) -> Path:
    """Frames at 10 a second, the left half dark and the right half bright, with a tone."""
    file.parent.mkdir(parents=True, exist_ok=True)
    codec = "flv" if file.suffix == ".flv" else "mpeg4"
    frame = np.zeros((size[1], size[0], 3), np.uint8)
    frame[:, size[0] // 2 :] = 220
    rate = 22_050 if file.suffix == ".flv" else 24_000
    with av.open(str(file), "w") as container:
        picture = container.add_stream(codec, rate=10)
        picture.width, picture.height, picture.pix_fmt = size[0], size[1], "yuv420p"
        track = (
            container.add_stream("mp3" if file.suffix == ".flv" else "aac", rate=rate)
            if sound
            else None
        )
        for _ in range(round(seconds * 10)):
            container.mux(picture.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(picture.encode(None))
        if track is not None:
            t = np.arange(round(seconds * rate)) / rate
            wave = (0.1 * np.sin(2 * np.pi * 220 * t)).astype(np.float32)[None]
            block = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = rate, 0, Fraction(1, rate)
            container.mux(track.encode(block))
            container.mux(track.encode(None))
    return file


# Dialogue -> its turns: letter of the speaker, start, end, label, words.
Turns = list[tuple[str, float, float, str, str]]


def _turns(*labels: str) -> Turns:
    """Six turns, F and M in turn, a second each with a gap of 0.1 s."""
    return [
        ("FM"[i % 2], float(i), i + 0.9, label, f"Line {i}, truly.")
        for i, label in enumerate(labels)
    ]


IEMOCAP: dict[str, Turns] = {
    "Ses01F_impro01": _turns("neu", "ang", "hap", "exc", "sad", "fru"),
    "Ses01M_script01_1b": _turns("neu", "ang", "xxx", "sad", "sad", "fru"),
    "Ses02F_impro05a": _turns("exc", "exc", "hap", "sur", "fea", "dis"),
    "Ses02M_impro02": _turns("neu", "neu", "neu", "ang", "ang", "oth"),
}  # fmt: skip
# The fourth turn of this dialogue begins before the third ends.
IEMOCAP["Ses01F_impro01"][3] = ("M", 2.5, 3.9, "exc", "I know!")


def iemocap(root: Path) -> Path:
    """Two sessions of two dialogues of six turns.

    Traps: header line, raters, gender order of label files, a subfolder of label files, one `xxx`,
    one `XX` turn and one line without a name, an overlap, two lines of a transcript exchanged,
    hidden files, dialogues whose name has a suffix.
    """
    root = root / "IEMOCAP_full_release"
    for dialogue, turns in IEMOCAP.items():
        session = root / f"Session{dialogue[4]}"
        ids = _ids(dialogue, turns)
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        for letter in "FM":
            for name, (who, start, end, label, _) in zip(ids, turns, strict=True):
                if who == letter:
                    lines += [
                        f"[{start:.4f} - {end:.4f}]\t{name}\t{label}\t[2.5000, 2.5000, 2.5000]",
                        "C-E2:\tNeutral state;\t()", "C-E3:\tAnger; Frustration;\t()",
                        "C-E4:\tAnger;\t()", "C-F1:\tHappiness;\t()",
                        "A-E3:\tval 3; act 2; dom 2;\t()", "",
                    ]  # fmt: skip
        _write(session / "dialog" / "EmoEvaluation" / f"{dialogue}.txt", lines)
        _write(session / "dialog" / "EmoEvaluation" / "Categorical" / f"{dialogue}_e2.txt", lines)
        said = [
            f"{name} [{start:08.4f}-{end:08.4f}]: {text}"
            for name, (_, start, end, _, text) in zip(ids, turns, strict=True)
        ]
        if dialogue == "Ses01F_impro01":
            said.insert(2, "M: [LAUGHTER]")
        if dialogue == "Ses02F_impro05a":
            said.insert(5, f"{dialogue}_MXX0 [004.9500-004.9900]: Mhm.")
        if dialogue == "Ses02M_impro02":
            said[1], said[2] = said[2], said[1]
        _write(session / "dialog" / "transcriptions" / f"{dialogue}.txt", said)
        film(session / "dialog" / "avi" / "DivX" / f"{dialogue}.avi", size=(72, 48))
        for name in ids:
            tone(session / "sentences" / "wav" / dialogue / f"{name}.wav")
        for hidden in ("EmoEvaluation", "transcriptions"):
            _write(session / "dialog" / hidden / f"._{dialogue}.txt", ["\x00\x05"])
    return root


MELD_HEADER = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,"
    "StartTime,EndTime"
)
MELD_SPLITS = {
    "train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test",
}  # fmt: skip
# Words, speaker, emotion, utterance id (with a gap), start, end.
MELD_LINES = [
    ("Oh my God, he’s lost it.", "Ross", "surprise", 0, "00:16:16,059", "00:16:16,459"),
    ("“Fine”…", "The Interviewer", "joy", 1, "00:16:16,500", "00:16:16,900"),
    ("You can’t – no.", "Joey_2", "anger", 3, "00:16:17,000", "00:16:17,400"),
]


def meld(root: Path) -> Path:
    """Three splits of two dialogues of three lines, and a film for each line.

    Traps: the dev table in cp1252 (’ is 0x92), gaps in Utterance_ID, a missing and an empty film in
    train, an EndTime before its StartTime in dev, a stray film, a film without a row and a hidden
    file in test, speakers with a blank and an underscore.
    """
    root = root / "MELD.Raw"
    for split, media in MELD_SPLITS.items():
        lines = [MELD_HEADER]
        for dialogue in (0, 7):
            for words, speaker, emotion, utterance, start, end in MELD_LINES:
                if (split, dialogue, utterance) == ("dev", 7, 3):
                    end = "00:16:16,100"
                lines.append(
                    f'{len(lines)},"{words}",{speaker},{emotion},neutral,{dialogue},{utterance},'
                    f'4,7,"{start}","{end}"'
                )
                film(root / media / f"dia{dialogue}_utt{utterance}.mp4")
        _write(root / f"{split}_sent_emo.csv", lines, "cp1252" if split == "dev" else "utf-8")
    (root / "train_splits" / "dia7_utt0.mp4").unlink()
    (root / "train_splits" / "dia7_utt1.mp4").write_bytes(b"")
    test = root / MELD_SPLITS["test"]
    film(test / "final_videos_testdia7_utt1.mp4")
    film(test / "dia9_utt4.mp4")
    (test / "._dia0_utt0.mp4").write_bytes(b"\x00\x05\x16\x07")
    return root


# Video -> its labels: start, end, and sentiment, happy, sad, anger, surprise, disgust, fear; then
# its transcript: number, start, end, words.
Label = tuple[float, float, tuple[float, ...]]
Said = tuple[int, float, float, str]
MOSEI: dict[str, tuple[list[Label], list[Said]]] = {
    "-3g5yACwYnA": (
        [(0.0, 0.5, (1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0)), (0.6, 1.2, (0.0,) * 7)],
        [(0, 0.0, 0.5, "I love it."), (1, 0.6, 1.2, "It has pages.")],
    ),
    "x__y_1": (
        [
            (1.0, 1.6, (-1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.5)),
            (0.1, 0.9, (-3.0, 0.0, 0.0, 0.0, 0.0, 3.0, 0.0)),
        ],
        [(0, 0.1, 0.9, "Yuck ___ really."), (5, 1.0, 1.6, "Sad and mad.")],
    ),
    "zz9": (
        [(0.0, 0.5, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.333))],
        [(0, 0.05, 0.5, "Help."), (1, 2.0, 2.4, "Nobody rated this.")],
    ),
}
MOSEI_FOLDS = {"train": ["-3g5yACwYnA"], "valid": ["x__y_1"], "test": ["zz9"]}


def mosei(root: Path) -> Path:
    """Three videos. Traps: labels out of order, a tie, no emotion, a segment with another number,
    one without a label, words and a video id that hold the separator's signs; one segment has a
    film of its own, the others are part of the whole one.
    """
    root = root / "CMU-MOSEI"
    raw = root / "Raw"
    root.mkdir(parents=True)
    with h5py.File(root / "CMU_MOSEI_Labels.csd", "w") as sequence:
        for video, (labels, said) in MOSEI.items():
            group = sequence.create_group(f"All Labels/data/{video}")
            group["intervals"] = np.array([[start, end] for start, end, _ in labels])
            group["features"] = np.array([values for *_, values in labels], np.float32)
            lines = [f"{video}___{n}___{start}___{end}___{text}" for n, start, end, text in said]
            _write(raw / "Transcript" / "Segmented" / "Combined" / f"{video}.txt", lines)
            tone(raw / "Audio" / "Full" / "WAV_16000" / f"{video}.wav", seconds=1.7)
            film(raw / "Videos" / "Full" / "Combined" / f"{video}.mp4", seconds=0.8)
    film(raw / "Videos" / "Segmented" / "Combined" / "-3g5yACwYnA_0.mp4", seconds=0.4)
    (root / "folds.json").write_text(json.dumps(MOSEI_FOLDS))
    return root


def emodb(root: Path) -> Path:
    """Two speakers, seven emotions. Traps: a malformed name, an LFS pointer, a hidden file."""
    root = root / "emodb"
    for speaker in ("03", "08"):
        for letter in "WLEAFTN":
            tone(root / "wav" / f"{speaker}a01{letter}a.wav")
    tone(root / "wav" / "03a01Xa.wav")
    (root / "wav" / "08b10Wb.wav").write_bytes(LFS_POINTER)
    (root / "wav" / "._03a01Fa.wav").write_bytes(b"\x00\x05")
    return root


def ravdess(root: Path) -> Path:
    """Two actors, eight emotions each as sound in 48 kHz.

    Actor 1 has a take as film too, one as silent film too, one as film alone, and one as silent
    film alone. Traps: a song, a malformed name, strong neutral, a file in another actor's folder,
    an LFS pointer.
    """
    root = root / "RAVDESS"
    for actor in ("01", "02"):
        folder = root / "Audio_Speech_Actors_01-24" / f"Actor_{actor}"
        for emotion in range(1, 9):
            tone(folder / f"03-01-0{emotion}-01-01-01-{actor}.wav", rate=48_000)
    films = root / "Video_Speech_Actor_01" / "Actor_01"
    film(films / "01-01-03-01-01-01-01.mp4")
    film(films / "02-01-04-01-01-01-01.mp4", sound=False)
    film(films / "01-01-05-02-02-02-01.mp4")
    film(films / "02-01-06-02-02-02-01.mp4", sound=False)
    second = root / "Audio_Speech_Actors_01-24" / "Actor_02"
    tone(second / "03-02-03-01-01-01-02.wav")
    tone(second / "03-01-09-01-01-01-02.wav")
    tone(second / "03-01-01-02-01-01-02.wav")
    tone(second / "03-01-03-02-01-01-01.wav")
    (second / "03-01-08-02-01-01-02.wav").write_bytes(LFS_POINTER)
    return root


CREMA_EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")


def crema_d(root: Path) -> Path:
    """Two actors, six emotions, sound and film; raters agree, but tie once and err once.

    Traps: a malformed name, an LFS pointer, the clip that has no sound, a film known to be faulty.
    """
    root = root / "CREMA-D"
    votes = []
    for actor in ("1001", "1064"):
        for emotion in CREMA_EMOTIONS:
            name = f"{actor}_DFA_{emotion}_XX"
            tone(root / "AudioWAV" / f"{name}.wav")
            film(root / "VideoFlash" / f"{name}.flv")
            vote = {"1001_DFA_ANG_XX": "A:D", "1001_DFA_FEA_XX": "S"}.get(name, emotion[0])
            votes.append(f'"{len(votes)}","{name}","N",50,"{emotion[0]}",60,"{vote}",70')
    tone(root / "AudioWAV" / "1001_DFA_ANG.wav")
    (root / "AudioWAV" / "1001_IEO_HAP_HI.wav").write_bytes(LFS_POINTER)
    tone(root / "AudioWAV" / "1076_MTI_SAD_XX.wav")
    tone(root / "AudioWAV" / "1064_IEO_DIS_MD.wav")
    film(root / "VideoFlash" / "1064_IEO_DIS_MD.flv")
    head = ['"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote",'
            '"MultiModalLevel"']  # fmt: skip
    _write(root / "processedResults" / "summaryTable.csv", head + votes)
    actors = ["1001,51,Male,Caucasian,Not Hispanic", "1064,45,Female,Asian,Not Hispanic",
              "1076,25,Female,Caucasian,Not Hispanic"]  # fmt: skip
    _write(root / "VideoDemographics.csv", ["ActorID,Age,Sex,Race,Ethnicity", *actors])
    return root


def nemo(root: Path) -> Path:
    """Two speakers, six emotions, 24 kHz; the speaker's cell is padded.

    Traps: a row without its file, an unknown emotion, a file without a row.
    """
    root = root / "nEMO"
    lines = ["file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage"]
    emotions = ("anger", "fear", "happiness", "neutral", "sadness", "surprised")
    for speaker, gender in (("WR0", "male"), ("EB0", "female")):
        for emotion in (*emotions, *(("zeal",) if gender == "male" else ())):
            name = f"{speaker}_{emotion}_1.wav"
            tone(root / "samples" / name, rate=24_000)
            words = ("Zażółć gęślą jaźń.", "zażółć gęślą jaźń")
            lines.append("\t".join([name, emotion, *words, f"        {speaker}", gender, "23"]))
    (root / "samples" / "EB0_fear_1.wav").unlink()
    tone(root / "samples" / "EB0_fear_2.wav", rate=24_000)
    _write(root / "data.tsv", lines)
    return root


def _ids(dialogue: str, turns: Turns) -> list[str]:
    seen = {"F": 0, "M": 0}
    names = []
    for letter, *_ in turns:
        names.append(f"{dialogue}_{letter}{seen[letter]:03d}")
        seen[letter] += 1
    return names


def _write(file: Path, lines: list[str], encoding: str = "utf-8") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(("\n".join(lines) + "\n").encode(encoding))
