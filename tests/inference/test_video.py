"""Videos as people have them: cut off, damaged, turned, of odd rates; frames keep their numbers."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from heteroseg.cli.main import main
from heteroseg.errors import HeterosegError

av = pytest.importorskip("av")
from heteroseg.inference.video import LargeFrames, Places, Video, write_video

FRAMES = 12


def make(path: Path, codec: str, rate: float = 10.0) -> bytearray:
    """A video of FRAMES frames, each brighter than the one before; its bytes."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, (64, 48))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV writes no {codec}")
    for i in range(FRAMES):
        writer.write((20 * i + np.random.default_rng(i).integers(0, 9, (48, 64, 3))).astype(np.uint8))
    writer.release()
    return bytearray(path.read_bytes())


def chunks(data: bytearray) -> list[slice]:
    """Where the frames of an AVI lie."""
    at, found = data.find(b"movi") + 4, []
    while data[at : at + 4] == b"00dc":
        (size,) = struct.unpack("<I", data[at + 4 : at + 8])
        found.append(slice(at + 8, at + 8 + size))
        at += 8 + size + size % 2
    return found


def read(path: Path) -> tuple[list[int], list[int], str | None]:
    """The numbers of the frames that come, those that their brightness tells, and the fault."""
    video = Video(path)
    places = Places(video, path)
    came = [(places.next(), round(float(frame.mean()) / 20)) for frame in video]
    return [number for number, _ in came], [shown for _, shown in came], places.fault()


@pytest.mark.parametrize(
    ("name", "codec"), [("v.avi", "MJPG"), ("v.avi", "mp4v"), ("v.mp4", "mp4v"), ("v.mkv", "mp4v")]
)
def test_a_whole_video_has_no_fault(tmp_path, name, codec):
    make(tmp_path / name, codec)
    assert read(tmp_path / name) == ([*range(FRAMES)], [*range(FRAMES)], None)


@pytest.mark.parametrize("holes", [[5], [0], [3, 4, 8], [FRAMES - 1]])
def test_after_a_hole_frames_keep_their_numbers(tmp_path, holes):
    data = make(tmp_path / "v.avi", "MJPG")
    for hole in holes:
        data[chunks(data)[hole]] = bytes(len(data[chunks(data)[hole]]))
    (tmp_path / "v.avi").write_bytes(data)
    left = [i for i in range(FRAMES) if i not in holes]
    numbers, shown, fault = read(tmp_path / "v.avi")
    assert numbers == shown == left
    assert f"expected {FRAMES} frames, found {len(left)} that can be decoded, the video is damaged" in str(fault)


@pytest.mark.parametrize(
    ("name", "codec"), [("v.avi", "MJPG"), ("v.avi", "mp4v"), ("v.mkv", "mp4v"), ("v.mkv", "MJPG")]
)
def test_a_video_that_is_cut_off(tmp_path, name, codec):
    """The frame that the cut goes through is none: the rest of it would be grey."""
    data, path = make(tmp_path / name, codec), tmp_path / name
    whole, first = [*Video(path)], data.find(b"movi") if name == "v.avi" else len(data) // 4
    for end in range(first, len(data) - 1, 97):
        path.write_bytes(data[:end])
        try:
            video = Video(path)
            places = Places(video, path)
            came = {places.next(): frame for frame in video}
        except HeterosegError:
            continue  # nothing is left
        assert "the video is cut off" in str(places.fault())
        assert all(np.array_equal(frame, whole[number]) for number, frame in came.items())


def test_an_mp4_that_is_cut_off(tmp_path):
    """One with its index in front, as for the web: the end is missing, and what is there plays."""
    data = make(tmp_path / "v.mp4", "mp4v")
    parts, at = {}, 0
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        parts[bytes(data[at + 4 : at + 8])] = data[at : at + size]
        at += size
    index = parts.pop(b"moov")
    at = index.find(b"stco") + 8
    for place in range(at + 4, at + 4 + 4 * struct.unpack(">I", index[at : at + 4])[0], 4):
        struct.pack_into(">I", index, place, struct.unpack_from(">I", index, place)[0] + len(index))
    fast = parts.pop(b"ftyp") + index + b"".join(parts.values())
    (tmp_path / "v.mp4").write_bytes(fast)
    assert read(tmp_path / "v.mp4")[2] is None
    (tmp_path / "v.mp4").write_bytes(fast[: len(fast) - len(parts[b"mdat"]) // 2])
    numbers, _, fault = read(tmp_path / "v.mp4")
    assert 0 < len(numbers) < FRAMES
    assert f"expected {FRAMES} frames, found {len(numbers)} that can be decoded, the video is cut off" in str(fault)


@pytest.mark.parametrize(("frame", "size"), [(5, 7), (5, 2**30), (FRAMES - 1, 7), (FRAMES - 1, 2**30)])
def test_an_mp4_whose_index_was_hit(tmp_path, frame, size):
    data = make(tmp_path / "v.mp4", "mp4v")
    struct.pack_into(">I", data, data.find(b"stsz") + 16 + 4 * frame, size)
    (tmp_path / "v.mp4").write_bytes(data)
    numbers, _, fault = read(tmp_path / "v.mp4")
    assert len(numbers) < FRAMES
    told = f"expected {FRAMES} frames, found {len(numbers)} that can be decoded, the video is damaged"
    assert told in str(fault)  # some were none


@pytest.mark.parametrize("codec", ["MJPG", "VP80"])
def test_no_frame_of_a_matroska_file_is_lost_in_silence(tmp_path, codec):
    """Whatever byte between its first frame and its last was hit; heads of frames too, which decoders do not see."""
    path = tmp_path / "v.mkv"
    whole = make(path, codec)
    places = [packet.pos for packet in av.open(str(path)).demux(video=0) if packet.size]
    for at in range(places[1], places[-1], 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x5A]) + whole[at + 1 :])
        numbers, _, fault = read(path)
        assert fault or numbers == [*range(FRAMES)], at
        if len(numbers) == FRAMES - 1 and numbers[-1] == FRAMES - 1:  # the others keep their numbers
            assert f"found {FRAMES - 1} that can be decoded, the video is damaged" in str(fault)


def test_a_matroska_file_whose_end_was_never_written(tmp_path):
    """As a download that was stopped, for which the whole place had been taken."""
    data = make(tmp_path / "v.mkv", "MJPG")
    (tmp_path / "v.mkv").write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    numbers, _, fault = read(tmp_path / "v.mkv")
    assert len(numbers) < FRAMES
    assert f"expected {FRAMES} frames, found {len(numbers)} that can be decoded" in str(fault)


@pytest.mark.parametrize("first", [0, 3])
def test_a_trimmed_mp4_has_no_fault(tmp_path, first):
    """It holds frames that are not to be shown, and counts them."""
    data = make(tmp_path / "v.mp4", "mp4v")
    scale, edits = struct.unpack_from(">I", data, data.find(b"mdhd") + 16)[0], data.find(b"elst")
    struct.pack_into(">I", data, data.find(b"mvhd") + 20, 900)  # milliseconds
    struct.pack_into(">Ii", data, edits + 12, 900, first * scale // 10)
    (tmp_path / "v.mp4").write_bytes(data)
    assert read(tmp_path / "v.mp4") == ([*range(9)], [*range(first, first + 9)], None)


def test_a_turned_video_is_upright(tmp_path):
    data = make(tmp_path / "v.mp4", "mp4v")
    struct.pack_into(">4i", data, data.find(b"tkhd") + 44, 0, 1 << 16, 0, -1 << 16)
    struct.pack_into(">i", data, data.find(b"tkhd") + 60, 0)
    (tmp_path / "v.mp4").write_bytes(data)
    assert Video(tmp_path / "v.mp4").size == (64, 48)
    assert {frame.shape for frame in Video(tmp_path / "v.mp4")} == {(64, 48, 3)}


@pytest.mark.parametrize("claimed", [0, 2**31 - 1])
def test_numbers_of_frames_that_cannot_be(tmp_path, claimed):
    data = make(tmp_path / "v.avi", "MJPG")
    struct.pack_into("<I", data, data.find(b"avih") + 24, claimed)
    struct.pack_into("<I", data, data.find(b"strh") + 40, claimed)
    (tmp_path / "v.avi").write_bytes(data)
    assert read(tmp_path / "v.avi") == ([*range(FRAMES)], [*range(FRAMES)], None)


@pytest.mark.parametrize("rate", [211.222, 29.97, 1000.0, 0.5])
def test_every_rate_can_be_written(tmp_path, rate):
    with write_video(tmp_path / "v.webm", (48, 64), rate) as write:
        write(np.zeros((48, 64, 3), np.uint8))
    assert Video(tmp_path / "v.webm").rate == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize("size", [(48, 64), (49, 65), (3, 2)])
def test_the_same_film_is_the_same_bytes(tmp_path, size):
    frames = np.random.default_rng(0).integers(0, 255, (9, *size, 3), np.uint8)
    for name in ("a.webm", "b.webm"):
        with write_video(tmp_path / name, size, 25.0) as write:
            for frame in frames:
                write(frame)
    assert (tmp_path / "a.webm").read_bytes() == (tmp_path / "b.webm").read_bytes()
    assert [frame.shape for frame in Video(tmp_path / "a.webm")] == 9 * [(*size, 3)]
    assert read(tmp_path / "a.webm")[2] is None


def test_frames_that_are_larger_than_asked_for(tmp_path):
    make(tmp_path / "v.avi", "MJPG")
    assert Video(tmp_path / "v.avi", 64 * 48).size == (48, 64)
    with pytest.raises(LargeFrames, match=r"v\.avi: a frame has 64 x 48 pixels, at most 0\.003 megapixels are taken"):
        Video(tmp_path / "v.avi", 3000)


def test_a_damaged_video_is_never_done(tiny_model_folder, tmp_path, capsys):
    """What can be read is labelled; every start tells what lacks, and what was labelled is kept."""
    data = make(tmp_path / "v.avi", "MJPG")
    whole = bytes(data)
    data[chunks(data)[4]] = bytes(len(data[chunks(data)[4]]))
    (tmp_path / "v.avi").write_bytes(data)
    out = tmp_path / "out"
    command = ["predict", str(tiny_model_folder), str(tmp_path / "v.avi"), "--out", str(out), "--overlay"]
    times = []
    for _ in range(2):
        assert main(command) == 2
        told = f"v.avi: expected {FRAMES} frames, found {FRAMES - 1} that can be decoded, the video is damaged"
        assert told in capsys.readouterr().err
        assert {p.name for p in (out / "v").iterdir()} == {f"{i:06d}.png" for i in range(FRAMES) if i != 4}
        times.append({p: p.stat().st_mtime_ns for p in out.rglob("*.*")})
    assert times[0] == times[1]
    found = json.loads((out / "v.json").read_text())
    assert (found["frames"], found["missing"]) == (FRAMES - 1, [4])
    (tmp_path / "v.avi").write_bytes(whole)
    assert main(command) == 2
    assert "was predicted before this input was changed" in capsys.readouterr().err


def test_a_video_of_no_frames(tmp_path):
    data = make(tmp_path / "v.avi", "MJPG")
    for chunk in chunks(data):
        data[chunk] = bytes(len(data[chunk]))
    (tmp_path / "v.avi").write_bytes(data)
    with pytest.raises(HeterosegError, match=r"v\.avi: expected a video, found no frame in it"):
        list(Video(tmp_path / "v.avi"))


def predict(model: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, where nothing keeps libraries quiet."""
    command = [sys.executable, "-m", "heteroseg", "predict", str(model), *map(str, words)]
    quiet = {key: value for key, value in os.environ.items() if not key.startswith("OPENCV")}
    return subprocess.run(command, env=quiet, capture_output=True, text=True)


def test_words_of_decoders_are_not_told(tiny_model_folder, tmp_path):
    data = make(tmp_path / "v.mp4", "mp4v")
    (tmp_path / "v.mp4").write_bytes(data[: len(data) // 2])
    run = predict(tiny_model_folder, tmp_path / "v.mp4", "--out", tmp_path / "out")
    *_, told = run.stderr.splitlines()
    assert told == f"heteroseg: {tmp_path}/v.mp4: expected a video, found a file that cannot be decoded"
    assert "moov" not in run.stderr  # was FFmpeg's "moov atom not found"


def test_words_of_encoders_are_not_told(tiny_model_folder, tmp_path):
    make(tmp_path / "v.mp4", "mp4v")
    run = predict(tiny_model_folder, tmp_path / "v.mp4", "--out", tmp_path / "out", "--overlay")
    assert (run.returncode, run.stderr.splitlines()) == (0, [f"{tmp_path}/v.mp4: {tmp_path}/out/v"])
    assert (tmp_path / "out" / "v_overlay.webm").stat().st_size


def test_videos_without_the_extra(tiny_model_folder, tmp_path, monkeypatch, capsys):
    """What else is in the folder is done."""
    (tmp_path / "in").mkdir()
    make(tmp_path / "in" / "v.mp4", "mp4v")
    cv2.imwrite(str(tmp_path / "in" / "a.png"), np.zeros((48, 64, 3), np.uint8))
    monkeypatch.delitem(sys.modules, "heteroseg.inference.video")
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(["predict", str(tiny_model_folder), str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    assert "v.mp4: a video needs the package av; pip install 'heteroseg[video]'" in capsys.readouterr().err
    assert (tmp_path / "out" / "a.png").is_file()
