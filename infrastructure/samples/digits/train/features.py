"""Turn the recordings of the Free Spoken Digit Dataset into log-mel bytes.

Source: https://github.com/Jakobovski/free-spoken-digit-dataset, folder `recordings`: {digit}_{speaker}_{take}.wav,
16 bit, 8 kHz. Own code, numpy only.

    python3 features.py --raw FOLDER_WITH_RECORDINGS --out WORK

Writes WORK/features.npz with, for each recording in the order of file names:
    X  uint8 [N, 24, 32]  24 frames of 32 log-mel bands
    Y  uint8 [N]          the digit
    S  uint8 [N]          the speaker, an index into SPEAKERS
    N  uint8 [N]          the take
"""
import argparse
import wave
from pathlib import Path

import numpy as np

SPEAKERS = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
RATE = 8000   # samples a second
WINDOW = 256  # samples, 32 ms
HOP = 80      # samples, 10 ms
BANDS = 32
FRAMES = 24


def mel_filters(bands=BANDS, bins=WINDOW // 2 + 1, rate=RATE):
    """Triangular filters [bands, bins] between 80 and 3900 Hz, evenly spaced on the mel scale."""
    def mel(hertz):
        return 2595 * np.log10(1 + hertz / 700)

    corners = 700 * (10 ** (np.linspace(mel(80), mel(3900), bands + 2) / 2595) - 1)  # Hz
    at = corners / (rate / 2) * (bins - 1)                                           # the same in bins
    filters = np.zeros((bands, bins))
    for i in range(bands):
        for k in range(bins):
            rising = (k - at[i]) / (at[i + 1] - at[i])
            falling = (at[i + 2] - k) / (at[i + 2] - at[i + 1])
            filters[i, k] = max(0, min(rising, falling))
    return filters


def read_samples(path):
    """Samples in [-1, 1), mono, padded with silence to two windows at least."""
    recording = wave.open(str(path))
    samples = np.frombuffer(recording.readframes(recording.getnframes()), np.int16).astype(float) / 32768
    if recording.getnchannels() == 2:
        samples = samples.reshape(-1, 2).mean(1)
    return np.r_[samples, np.zeros(max(0, 2 * WINDOW - len(samples)))]


def log_mel(samples, filters):
    """Samples to uint8 [FRAMES, BANDS].

    Log of the mel power of Hann windows, stretched linearly in time to FRAMES frames, mean of the utterance taken
    away, divided by 4, then stored as value * 42 + 128: (byte - 128) / 42 gives it back.
    """
    frames = np.stack([samples[i:i + WINDOW] * np.hanning(WINDOW)
                       for i in range(0, len(samples) - WINDOW + 1, HOP)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    logs = np.log(power @ filters.T + 1e-6)

    at = np.linspace(0, len(logs) - 1, FRAMES)
    before = np.floor(at).astype(int)
    after = np.minimum(before + 1, len(logs) - 1)
    logs = logs[before] * (1 - (at - before))[:, None] + logs[after] * (at - before)[:, None]

    logs = (logs - logs.mean()) / 4
    return np.clip(logs * 42 + 128, 0, 255).astype(np.uint8)


def main():
    parser = argparse.ArgumentParser(description="log-mel bytes of the Free Spoken Digit Dataset")
    parser.add_argument("--raw", type=Path, required=True, help="the dataset's folder `recordings`")
    parser.add_argument("--out", type=Path, required=True, help="folder for features.npz")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    filters = mel_filters()
    clips, digits, speakers, takes = [], [], [], []
    for path in sorted(args.raw.glob("*.wav")):
        digit, speaker, take = path.stem.split("_")
        clips.append(log_mel(read_samples(path), filters))
        digits.append(int(digit))
        speakers.append(SPEAKERS.index(speaker))
        takes.append(int(take))
    clips = np.stack(clips)
    print(clips.shape, clips.mean(), clips.std())
    np.savez(args.out / "features.npz", X=clips, Y=np.array(digits, np.uint8),
             S=np.array(speakers, np.uint8), N=np.array(takes, np.uint8))


if __name__ == "__main__":
    main()
