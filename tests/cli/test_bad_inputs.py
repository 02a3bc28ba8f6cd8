"""Bad command lines: each ends with exit code 2 and one line that has the value, what was expected
and what to do."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from itervae import cli
from itervae.errors import as_options

QUICK = ("--updates", 2, "--batch-size", 10, "--validate-every", 2, "--device", "cpu")


def run(*args):
    cli.main([str(arg) for arg in args])


@pytest.fixture(scope="module")
def the(tmp_path_factory):
    """Small runs, and files that are good or bad, by short names."""
    home = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    x, phi = rng.normal(size=(40, 16)), rng.normal(size=(16, 6))
    np.save(home / "x.npy", x)
    np.save(home / "narrow.npy", x[:, :9])
    np.save(home / "nan.npy", np.where(x > 2, np.nan, x))
    np.save(home / "phi.npy", phi)
    np.save(home / "vector.npy", phi[0])
    np.save(home / "holes.npy", np.where(phi > 0, np.inf, phi))
    np.save(home / "words.npy", np.array([["a", "b"]]))
    np.save(home / "big.npy", phi * 1e300)
    np.savez(home / "phi.npz", dictionary=phi, log_rate=np.full(6, -2.0))
    np.savez(home / "rates.npz", dictionary=phi, log_rate=np.zeros(7))
    np.savez(home / "turned.npz", dictionary=phi.T, shape=np.array([4, 4]))
    np.savez(home / "other.npz", weights=phi, rates=phi[0])
    np.savez(home / "none.npz")
    np.save(home / "turned.npy", phi.T)
    np.save(home / "squares.npy", x.reshape(40, 4, 4))
    np.save(home / "half.npy", np.full(40, 0.5))
    atoms = rng.normal(size=(3, 1, 3, 2))
    small = {"atoms": atoms, "stride": 2, "shape": np.array([4, 4])}
    np.save(home / "atoms.npy", atoms)
    np.savez(home / "atoms.npz", kind="convolution", **small)
    np.savez(home / "kind.npz", kind="wavelet", **small)
    np.savez(home / "strideless.npz", kind="convolution", atoms=atoms)
    np.savez(home / "atomless.npz", kind="convolution", stride=2)
    np.savez(home / "deep.npz", kind="convolution", **small | {"shape": np.array([3, 4, 4])})
    np.savez(home / "wide.npz", kind="convolution", **small | {"stride": 3})
    np.savez(home / "uneven.npz", kind="convolution", **small | {"stride": 1.5})
    np.savez(home / "flat.npz", kind="convolution", **small | {"atoms": phi})
    np.savez(home / "rated.npz", kind="convolution", log_rate=np.zeros(7), **small)
    np.save(home / "tiny.npy", rng.integers(0, 255, (2, 9, 2), dtype=np.uint8))
    counts = rng.poisson(1.0, (40, 16))
    np.save(home / "counts.npy", counts)
    np.savetxt(home / "x.csv", np.where(np.arange(640).reshape(40, 16) == 114, 0.5, counts), delimiter=",")
    (home / "words.csv").write_text("size,kind\n1,red\n", encoding="utf-8")
    for name in ("text.mat", "text.h5", "x.txt"):
        (home / name).write_text("no array", encoding="utf-8")
    (home / "x-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3]) + np.array([9, 9, 9], ">u4").tobytes() + b"none")
    (home / "half.npz").write_bytes((home / "phi.npz").read_bytes()[:200])
    (home / "empty.npz").write_bytes(b"")
    (home / "text.npz").write_text("no archive", encoding="utf-8")
    (home / "huge.npy").write_bytes(npy_head((10**6, 10**6)))
    (home / "text.pt").write_text("no checkpoint", encoding="utf-8")
    (home / "empty.pt").write_bytes(b"")
    (home / "zip.pt").write_bytes((home / "phi.npz").read_bytes())
    (home / "file").write_text("a file", encoding="utf-8")
    (home / "folder").mkdir()
    (home / "folder.npz").mkdir()
    (home / "list.json").write_text("[1]", encoding="utf-8")
    (home / "cut.json").write_text('{"schema": 1', encoding="utf-8")
    (home / "bad.yaml").write_text("latents: [1", encoding="utf-8")
    (home / "typo.yaml").write_text("latnets: 3", encoding="utf-8")
    array = ("--data", "array", "--data-path", home / "x.npy", "--latents", 6)
    run("train", *array, "--run-dir", home / "run", *QUICK)
    run("train", *array, "--run-dir", home / "coding", "--model", "sparse-coding", *QUICK)
    run("train", *array, "--run-dir", home / "gaussian", "--family", "gaussian", *QUICK)
    counted = ("--data", "array", "--data-path", home / "counts.npy", "--latents", 6, "--likelihood", "poisson")
    run("train", *counted, "--run-dir", home / "counts", *QUICK)
    narrow = ("--data", "array", "--data-path", home / "narrow.npy", "--latents", 4)
    for name, engine in (("small", "amortized"), ("gru", "semi-amortized")):
        run("train", *narrow, "--run-dir", home / name, "--inference", engine, *QUICK)
    drift = ("--data", "drift", "--patch-size", 4, "--frames", 3, "--latents", 6, "--window", 3)
    run("train", *drift, "--run-dir", home / "drift", *QUICK)
    (home / "cut.pt").write_bytes((home / "run/checkpoint_last.pt").read_bytes()[:5000])
    (home / "runs [beta2]").mkdir()
    return home


def npy_head(shape):
    """A .npy file that claims an array of `shape` and holds none of it."""
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode()


INFER = "infer run --input x.npy --output o.npz"
GAP = "gap run --engines lca-unrolled:2 --num 5"
BAD = {
    # commands and options
    "gaps": "'gaps' is not a command; did you mean gap?",
    "nothing": "'nothing' is not a command; expected one of train",
    "gap": "no target was named; expected one, before the options: see itervae gap --help",
    "evaluate": "no run",
    "sequence": "no run",
    "rate-distortion": "no run",
    "infer run": "--input and --output are missing; expected",
    "export run": "--output is missing; expected",
    "gap run --nmu 3": "--nmu is no option of this command; did you mean --num?",
    "gap run --zzz": "--zzz is no option of this command; expected",
    "gap run --num": "--num was given no value; expected a whole number",
    "gap run --num abc": "--num is 'abc'; expected a whole number",
    "gap run --num 2.5": "--num is '2.5'; expected a whole number",
    "gap run --num=1e3": "--num is '1e3'; expected a whole number",
    "gap run --split tets": "--split is 'tets'; did you mean test?|--split is 'tets'; expected one of train",
    "gap run --contrast high": "--contrast is 'high'; expected a number",
    "gap run folder": "folder was given too; expected one target, and then options: see itervae gap --help",
    "evaluate run --split training": "--split is 'training'; .*expected one of validation, test",
    "rate-distortion run --thresholds a b": "--thresholds is 'a b'; expected a number",
    "figure": "no figure was named; expected one first, of gap-steps, .*: see itervae figure --help",
    "figure --output o.png gap-steps": "no figure was named; expected one first",
    "figure gap-step g.json --output o.png": "figure 'gap-step' is unknown; did you mean gap-steps?",
    "figure kl-residual x.npy --output o.png": "x.npy was given to .*kl-residual, which takes no input; leave it out",
    "figure kl-residual --output o.png --rate 3": "--rate is no option of this command; .*kl-residual --help",
    "figure kl-residual --output o.png --log-time": "--log-time is no option of this command; expected one that is",
    "engines all": "all was given to itervae engines, which takes no input; leave it out",
    # targets
    "train DATA --start-scale -1 --run-dir o": "--start-scale is -1.0; expected a positive number",
    "train DATA --updates 0 --run-dir o": "--updates is 0; expected a positive number",
    "gap nowhere": "there is no checkpoint at .*nowhere.*; expected a run folder",
    "gap folder": "no checkpoint at .*folder.*; expected",
    "gap nowhere.npz": "there is no dictionary file at .*nowhere.npz; expected",
    "gap folder.npz": "no checkpoint at folder.npz.*; expected",
    "gap empty.npz": "empty.npz cannot be read .*: make or copy it again",
    "gap text.npz": "text.npz cannot be read .*: make or copy it again",
    "gap half.npz": "half.npz cannot be read .*: make or copy it again",
    "gap huge.npy": "huge.npy claims float64 values of shape .*; it is damaged or truncated: make or copy",
    "gap none.npz": "none.npz holds nothing; expected an array named dictionary",
    "gap other.npz": "other.npz holds rates, weights; expected an array named dictionary .*: name it with",
    "gap vector.npy": r"dictionary of .*vector.npy has shape \(6,\); expected \(D, K\)",
    "gap holes.npy": "holes.npy holds inf at row .*; remove or replace",
    "gap big.npy": "big.npy holds .*e\\+.*, which is no finite 32-bit number; remove or replace",
    "gap words.npy": "words.npy holds values of type <U1, not real numbers; save",
    "gap rates.npz": r"log_rate of .*rates.npz has shape \(7,\); expected \(6,\)",
    "gap turned.npz": r"shape of .*turned.npz is \(4, 4\); expected one of 6 values.*atoms='rows'",
    "gap text.pt": "text.pt .*; expected",
    "gap empty.pt": "empty.pt .*; expected",
    "gap zip.pt": "zip.pt .*; expected",
    "gap cut.pt": "cut.pt .*; expected",
    "infer text.pt --input x.npy --output o.npz": "text.pt .*; expected",
    "export cut.pt --dictionary o.npz": "cut.pt .*; expected",
    "export phi.npz --dictionary o.npz": "phi.npz.*expected|phi.npz .*use",
    "export phi.npz --dictionary phi.npz": "--output is .*phi.npz, and so is what the command reads; exp",
    "evaluate text.pt": "text.pt .*; expected",
    "sequence empty.pt": "empty.pt .*; expected",
    "sequence run": "run was not trained on sequences; expected",
    "rate-distortion phi.npz phi.npy": "phi.npz and phi.npy were named as dictionaries; expected one",
    "infer phi.npz --input x.npy --output new.npz --threshold 1": "--threshold 1.0 is of sparse coding; use --model",
    "infer phi.npz --input x.npy --output new.npz --signed": "--signed True is of sparse coding; use --model",
    "infer phi.npy --input x.npy --output new.npz --model sparse-coding": "has no threshold; give one",
    "infer phi.npy --input x.npy --output new.npz --model sparse-coding --threshold 0": "threshold is 0.0; expected",
    "infer coding --input x.npy --output new.npz --threshold 1": "--threshold 1.0 was given for coding, a run that",
    "gap phi.npy --model sparse-coding --threshold 1 --log-rate -3": "log_rate -3.0 was given for phi.npy, and is of a",
    "gap phi.npy DATA --model sparse-coding --threshold 1 --shrinkage hard": "cost is not convex",
    "rate-distortion run --dictionary vector.npy": r"vector.npy has shape \(6,\); expected",
    "LONG": "a{250,}.*cannot be used .*: name another|no checkpoint at a",
    # engines
    "gap run --engines lca:5": "engine 'lca' is unknown; .*expected one of",
    "gap run --engines lca-unrolled:five": "asks for 'five' steps; expected ENGINE:STEPS with a whole number",
    "gap run --engines lca-unrolled:²": "asks for '²' steps; expected ENGINE:STEPS",
    "gap run --engines lca-unrolled:-3": "asks for '-3' steps; expected ENGINE:STEPS",
    "gap run --engines ,": "--engines was given no value; expected some such as lca-unrolled:20",
    "gap run --engines recurrent": "recurrent has to be trained.*; use",
    "gap gaussian --engines lca-unrolled": "lca-unrolled needs a model with .*; engines that fit",
    "gap phi.npz DATA --engines small": "encoder of Amortized takes 9 values per datum, and these have 16 .*train one",
    "gap phi.npz DATA --engines gru": "encoder of Amortized takes 9 values per datum, and these have 16 .*train one",
    "gap run --engines folder": "no checkpoint at folder.*; expected",
    "gap run --engines optimal:3:4": "no module 'optimal' to import 3 from; expected MODULE:CLASS",
    f"{INFER} --inference lca": "engine 'lca' is unknown; .*expected one of",
    f"{INFER} --steps -1": "--steps is -1; expected a number ≥ 0",
    f"{INFER} --inference amortized": "amortized has to be trained.*; use",
    "evaluate run --inference lca-unrolled:x": "asks for 'x' steps; expected ENGINE:STEPS",
    "evaluate run --inference lca-unrolled:²": "asks for '²' steps; expected ENGINE:STEPS",
    "rate-distortion run --coders lca-unrolled:200": "coder 'lca-unrolled:200' is not ENGINE:STEPS:soft .*; write",
    "rate-distortion run --coders lca-unrolled:²:soft": "asks for '²' steps; expected ENGINE:STEPS",
    f"{INFER} --inference lca-unrolled:2 --steps 3": "--steps 3 was given beside --inference .*; write the number",
    f"{INFER} --inference lca-unrolled:x": "asks for 'x' steps; expected ENGINE:STEPS with a whole number",
    f"{INFER} --inference nowhere:Engine": "no module 'nowhere' to import Engine from; expected MODULE:CLASS",
    "gap run --own nowhere:Engine": "no module 'nowhere' to import Engine from; expected MODULE:CLASS",
    "export run --own json:JSONDecoder --dictionary o.npz": "json:JSONDecoder is .*; expected a class in json",
    "rate-distortion run --coders lista:5:soft": "coder 'lista:5:soft' is not ENGINE:STEPS:soft .*; write",
    "rate-distortion run --coders nowhere:Engine:5:soft": "no module 'nowhere' .*; expected MODULE:CLASS",
    # numbers
    "gap run --threads 0": "--threads is 0; expected a number ≥ 1",
    "sequence drift --threads x": "--threads is 'x'; expected a whole number",
    "gap run --num 0": "--num is 0; expected a number ≥ 1",
    "gap run --seed -1": "--seed is -1; expected a whole number from 0",
    "gap run --seed 18446744073709551616": "--seed is 18446744073709551616; expected a whole number from 0",
    f"{INFER} --seed -5": "--seed is -5; expected a whole number from 0",
    "evaluate run --seed -1": "--seed is -1; expected",
    "rate-distortion run --seed -1": "--seed is -1; expected",
    "sequence drift --seed -1": "--seed is -1; expected",
    "figure relaxed-poisson --output o.png --seed -1": "--seed is -1; expected",
    "gap run --contrast nan": "--contrast is nan; expected a finite number",
    "gap run --certificate 0": "--certificate is 0.0; expected a positive number",
    "gap run --certificate nan": "--certificate is nan; expected a positive number",
    "gap phi.npy --log-rate nan": "--log-rate is nan; expected a log-rate from -30 to 5",
    "gap phi.npy --log-rate inf": "--log-rate is inf; expected a log-rate",
    "gap phi.npy --log-rate 99": "--log-rate is 99.0; expected a log-rate",
    "gap phi.npy --observation-variance nan": "--observation-variance is nan; expected a positive number",
    "gap phi.npy --observation-variance -1": "--observation-variance is -1.0; expected a positive number",
    "gap phi.npz --log-rate -3": "log_rate -3.0 was given, but .*phi.npz has its own; leave it out",
    "gap run --log-rate -3": "--log-rate -3.0 was given for .*run, a run that has its own; leave it out",
    "evaluate run --num 1": "--num is 1; expected at least 2",
    "rate-distortion run --num 1": "--num is 1; expected at least 2",
    "rate-distortion run --thresholds 0": "--thresholds has 0.0; expected positive numbers",
    "rate-distortion run --thresholds nan": "--thresholds has nan; expected positive numbers",
    "rate-distortion run --thresholds inf": "--thresholds has inf; expected positive numbers",
    "sequence drift --tubes 0": "--tubes is 0; expected a number ≥ 1",
    "sequence drift --certificate 0": "--certificate is 0.0; expected a positive number",
    "sequence drift --whole": "--whole was given for .*drift, which has a LinearDecoder",
    "sequence drift --optima --steps 3": "--optima takes no steps, and --steps is 3; leave one out",
    "sequence drift --steps 0": "--steps is 0; expected a number ≥ 1",
    "sequence drift --steps 1,²": "--steps is '1 ²'; expected a whole number",
    "figure relaxed-poisson --output o.png --rate nan": "--rate is nan; expected a positive number",
    "figure relaxed-poisson --output o.png --num 0": "--num is 0; expected a number ≥ 1",
    "figure relaxed-poisson --output o.png --temperatures 0": "--temperatures has 0.0; expected positive numbers",
    "gap run --device tpu": "device 'tpu' is not available here .*; use auto",
    # data
    "gap phi.npy DATA --num 5 --engines optimal --contrast 0": "all 5 data are the same; expected some that differ",
    "evaluate run --truth": "--suite truth needs the dictionary that data were made of, and --data array has none",
    "evaluate run --suite units --truth": "--suite truth needs the dictionary .*; leave it out, or use --data synth",
    "train --data synthetic --zipf 1": "--zipf 1 is of features that fire by .*; add --firing independent",
    "evaluate run --suite knn": "needs labels, and --data array has none; leave it out",
    "evaluate run --suite unit": "--suite is 'unit'; did you mean units?",
    "evaluate run --suite ,": "--suite was given no value; expected some of units",
    "evaluate run --readouts pixles": "--readouts is 'pixles'; did you mean pixels?",
    "evaluate coding --suite units": "coding is a sparse code: .*; leave out this run",
    "evaluate run small": "run was trained on .* and small on .*; name the data",
    "sequence drift --data photos": "--data photos has no order; use --data video",
    "sequence drift --frames 1": "one frame have no past; give --frames 2",
    "infer run --input none.npy --output o.npz": "none.npy .*; (give|expected|name)",
    "infer run --input folder --output o.npz": "folder .*; (save|expected|name)",
    "infer run --input narrow.npy --output o.npz": r"narrow.npy has shape \(40, 9\)",
    "infer run --input nan.npy --output o.npz": "nan.npy holds nan at row .*; remove or replace",
    "infer run --input words.npy --output o.npz": "words.npy holds values of type <U1",
    "infer run --input x.npy --data-key k --output o.npz": "key 'k' does not apply to .*x.npy.*; leave it out",
    "infer phi.npy --atoms row --input x.npy --output o.npz": "--atoms is 'row'; did you mean rows",
    "infer turned.npy --input x.npy --output o.npz": r"x.npy has shape \(40, 16\), .* \(N, 6\); .*say --atoms rows",
    "gap turned.npy DATA": "explains 6 with 16 latents; if the atoms .* transpose it, or say --atoms rows",
    "infer run --atoms rows --input x.npy --output o.npz": "--atoms rows was given for run, a run that has its own",
    "evaluate run --atoms rows": "--atoms rows was given for run, a run that has its own",
    "rate-distortion run --dictionary-key w": "--dictionary-key w was given for run, a run that has its own",
    "train DATA --decoder convolutional --atom-size 0 --run-dir o": "--atom-size is 0; expected a number ≥ 1",
    "train DATA --decoder convolutional --dimensions 3 --run-dir o": "--dimensions 3 was given for data",
    "train DATA --dimensions 1 --run-dir o": "--dimensions 1 is of a convolutional dictionary.*; leave it out",
    "train DATA --stride 2 --run-dir o": "--stride 2 is of a convolutional dictionary.*; leave it out",
    "train DATA --decoder convolutional --atom-size 4 --stride 5 --run-dir o": "stride is 5 and atoms are 4 wide",
    "train DATA --decoder mlp --dictionary-steps both --run-dir o": "--dictionary-steps both needs a dictionary",
    "train DATA --dictionary-memory 0 --run-dir o": "--dictionary-memory is 0; expected a positive number",
    "train DATA --restart-atoms 1 --run-dir o": "--restart-atoms is 1.0; expected a share above 0 and below 1",
    "train DATA --dictionary-momentum 1 --run-dir o": "--dictionary-momentum is 1.0; expected a share above 0 and",
    "train DATA --inference amortized --restart-atoms 0.3 --run-dir o": "--restart-atoms 0.3 is for steps of the dict",
    "train DATA --dictionary-steps gradient --dictionary-memory 2 --run-dir o": "--dictionary-memory 2 is for steps",
    "train DATA --freeze phi.npz --inference lista --dictionary-steps both --run-dir o": "without --freeze; leave",
    "train --atoms rows": "--atoms rows is for the dictionary file of --freeze, and none is named; leave it out",
    "train DATA --freeze run --atoms rows --run-dir o": "--atoms rows is .*, and --freeze .*run is a run; leave it out",
    "infer run --shape 4 4 --input x.npy --output o.npz": "--shape 4 4 was given for run, a run that has its own",
    "gap kind.npz": "kind of kind.npz is 'wavelet'; expected convolution, or none for a matrix: export it again",
    "gap strideless.npz": "strideless.npz is of kind convolution and has no array stride; expected a whole number",
    "gap atomless.npz": r"atomless.npz holds kind, stride; expected an array named atoms \(K, C, H, W\)",
    "gap deep.npz": r"shape of deep.npz is \(3, 4, 4\); expected \(N, N\), as its atoms have it",
    "gap wide.npz": "stride of wide.npz is 3 and its atoms are 2 wide; expected at most that",
    "gap uneven.npz": "stride of uneven.npz is 0; expected a number ≥ 1|stride of uneven.npz is 1.5; expected",
    "gap flat.npz": r"the atoms of flat.npz have shape \(16, 6\); expected \(K, C, H, W\)",
    "gap rated.npz": r"log_rate of rated.npz has shape \(7,\); expected \(3,\), one per atom",
    "gap atoms.npy": r"atoms.npy has shape \(3, 1, 3, 2\); .* small atoms, which may lie anywhere, need a --stride",
    "gap atoms.npy --stride 0": "stride is 0; expected a number ≥ 1",
    "gap atoms.npz --stride 1": "stride 1 was given, but atoms.npz has its own; leave it out",
    "gap atoms.npz --atoms rows": "atoms rows was given for atoms.npz, whose atoms are no matrix; leave it out",
    "gap run --stride 1": "--stride 1 was given for run, a run that has its own; leave it out",
    "gap atoms.npz TABLE narrow.npy": "x has 9 values per datum; this model explains data of 16: use data of that size",
    "evaluate atoms.npz TABLE narrow.npy": r"shape is \(9,\); expected \(N, N\), as the atoms have it",
    "gap atoms.npz DATA --whole": "--data array is not cut from still pictures.*; leave out --whole",
    "gap run --whole": "--whole was given for run, which has a LinearDecoder for data of one size; leave it out",
    "gap atoms.npz --whole --split train": "--whole is of pictures that are held out, and --split is train; leave one",
    "evaluate atoms.npz --whole --split test": "--whole is of pictures that are held out, and --split is test; leave",
    "infer atoms.npz --input tiny.npy --output o.npz": "tiny.npy has shape .* pictures of at least 3x3 pixels",
    "train DATA --freeze atoms.npz --inference lista --run-dir o": "atoms of --freeze .*atoms.npz are 3x2; .*square",
    "infer phi.npy --shape 3 4 --input x.npy --output o.npz": r"phi.npy is \(3, 4\); expected one of 16 values",
    "infer phi.npy --input squares.npy --output o.npz": "give the shape of an atom, --shape 4 4",
    "infer other.npz --dictionary-key w --input x.npy --output o.npz": "has no array 'w'; it holds rates, weights",
    "infer counts --input x.npy --output o.npz": "needs counts: .*, and row 0 of x.npy holds .* in column .; use",
    "train TABLE x.csv --likelihood poisson --run-dir o": "needs counts: .*row 7 of .*x.csv holds 0.5 in column 2",
    "train TABLE words.csv --run-dir o": "column 'kind' of .*words.csv holds 'red', which is no number; remove it",
    "train TABLE none.h5 --run-dir o": "none.h5 is not a file; give a file of one of .npy, .npz",
    "train TABLE x.txt --run-dir o": "x.txt has the suffix '.txt'; give a file of one of .npy, .npz",
    "train TABLE text.mat --run-dir o": "text.mat cannot be read .*: make or copy it again",
    "train TABLE text.h5 --run-dir o": "text.h5 cannot be read .*: make or copy it again",
    "train TABLE x-idx3-ubyte --run-dir o": "x-idx3-ubyte claims values of shape .*: make or copy it again",
    "train DATA --shape 3 4 --run-dir o": "--shape 3 4 is of 12 values, but a row of .*x.npy has 16; give a shape",
    "train DATA --shape 16 --run-dir o": "--shape 16 is no shape of images; give H W or C H W",
    "train DATA --divide-by 0 --run-dir o": "--divide-by 0.0 is no positive number; give one, such as 255",
    "train DATA --labels narrow.npy --run-dir o": r"labels of .*narrow.npy have shape \(40, 9\), .* give \(40,\)",
    "train DATA --labels half.npy --run-dir o": "labels of .*half.npy hold 0.5, which is no whole number; give classes",
    "train DATA --val-labels half.npy --run-dir o": "--val-labels are those of a separate .*; give --labels, or name",
    "train --labels x.npy --run-dir o": "--labels x.npy does not apply to --data photos; leave it out",
    "train --data torchvision --run-dir o": "--data torchvision is unknown; choose one of .*|--data is 'torchvision'",
    "train --data torchvision:Fashion --run-dir o": "torchvision:Fashion is no data set of torchvision; did you mean",
    "train --data torchvision:FashionMNIST --data-path folder --run-dir o": "FashionMNIST could not be .* or name one",
    "train DATA --link exp --run-dir o": "link exp was given with likelihood gaussian, .*; leave it out",
    "train DATA --likelihood poisson --link log --run-dir o": "link is 'log'; .*expected one of|--link is 'log'",
    "train COUNTS --inference fista-unrolled --run-dir o": "fista-unrolled needs .*Gaussian likelihood.*that fit",
    "train COUNTS --estimator exact --run-dir o": "exact.*use",
    "train --contrast-rule published --run-dir o": "--contrast-rule published says how .*add --local-contrast, or",
    "train --local-contrast --contrast-rule soft --run-dir o": "--contrast-rule is 'soft'; expected one of divisive",
    "train DATA --contrast-rule published --run-dir o": "--contrast-rule published does not apply to --data array",
    "train --colour --local-contrast --run-dir o": "--local-contrast normalizes .*--colour keeps colour; leave one",
    "train --whitening zca --no-whiten --run-dir o": "--whitening zca says how .*--no-whiten that they are not; leave",
    "train --whitening zca --local-contrast --run-dir o": "--whitening zca whitens patches; leave one of them out",
    "train --patches 0 --run-dir o": "--patches 0 cuts nothing to train on; expected at least 1",
    "train --patches 1000000000000 --run-dir o": "--patches 1000000000000 take .* GB are free; give fewer",
    "train --data mnist --patches 100 --run-dir o": "--patches 100 does not apply to --data mnist; leave it out",
    "train --whitening zca --patch-size 65 --run-dir o": "needs a matrix of 4225x4225 .*; give a smaller --patch-size",
    "train --whitening pca --run-dir o": "--whitening is 'pca'; expected one of filter, zca|--whitening is 'pca'; did",
    "train DATA --colour --run-dir o": "--colour does not apply to --data array; leave it out, or use --data photos",
    "train --data drift --whitening zca --run-dir o": "--whitening zca does not apply to --data drift; leave it out",
    "train --whitening zca --decoder convolutional --run-dir o": "takes whole pictures; use --whitening filter, or",
    "train --estimator eat-straight --run-dir o": "--estimator is 'eat-straight'; did you mean",
    "train --kl-rate prio --run-dir o": "--kl-rate is 'prio'; did you mean prior",
    "train --inference spiking-lca --clamps 8 --run-dir o": "--clamps is '8'; expected one of hard",
    # outputs, which are refused before the work
    "infer run --input none.npy --output o.txt": "--output is .*o.txt; expected a name ending in .npz",
    "infer run --input none.npy --output folder.npz": "--output is .*folder.npz, a folder; expected",
    "infer run --input none.npy --output file/o.npz": "--output is .*file/o.npz, and .*file is no folder; expected",
    "infer run --input none.npy --output /proc/none/o.npz": "/proc/none/o.npz, which cannot be written .*name",
    "infer run --input x.npy --output x.npz/../x.npy": "--output is .*x.npy; expected a name ending in .npz",
    "infer phi.npz --input x.npy --output phi.npz": "--output is .*phi.npz, and so is what the command reads; expected",
    "export nowhere --dictionary phi.txt": "--output is .*phi.txt; expected a name ending in .npz",
    "gap nowhere --figure o.eps": "--figure is .*o.eps; expected a name ending in .png or .pdf or .svg",
    "gap nowhere --save o.npy": "--save is .*o.npy; expected a name ending in .npz",
    "gap nowhere --json folder": "--json is .*folder, a folder; expected",
    "gap nowhere --json /dev/null": "--json is /dev/null, no ordinary file; expected",
    "gap nowhere --json NAME": "--json is .*n{250,}, which cannot be written .*name another place",
    "evaluate nowhere --figure o.svgz": "--figure is .*o.svgz; expected a name ending in .png or .pdf or .svg",
    "evaluate nowhere --json file/j.json": "--json is .*file/j.json, and .*file is no folder; expected",
    "rate-distortion nowhere --figure o.jpg": "--figure is .*o.jpg; expected a name ending in .png or .pdf or .svg",
    "rate-distortion nowhere --json folder": "--json is .*folder, a folder; expected",
    "sequence nowhere --animation o.png": "--animation is .*o.png; expected a name ending in .gif",
    "sequence nowhere --spikes o.gif": "--spikes is .*o.gif; expected a name ending in .png or .pdf or .svg",
    "sequence nowhere --figure o.png --spikes o.png": "--spikes is .*o.png, and so is --figure; expected another name",
    "figure gap-steps none.json --output o.tif": "--output is .*o.tif; expected a name ending in .png or .pdf or .svg",
    # reports
    "figure gap-steps --output o.png": "the figure was given no input; name",
    "figure gap-steps none.json --output o.png": "there is no report at .*none.json; write it with",
    "figure gap-steps list.json --output o.png": "list.json is no gap report; expected",
    "figure gap-steps cut.json --output o.png": "cut.json cannot be read as JSON .*; write it again",
    "figure gap-distribution half.npz --output o.png": "half.npz cannot be read as .npz .*; write it again",
    "figure gap-distribution phi.npz --output o.png": "phi.npz has no array free_energy_optimal .*; expected",
    "figure training folder --output o.png": "no metrics.jsonl in .*folder; name a run folder",
    "figure rate-distortion a.json b.json --output o.png": "was given 2 inputs; expected 1",
    # training
    "train --config none.yaml": "no config file at none.yaml; expected",
    "train --config bad.yaml": "bad.yaml is not valid YAML .*; expected",
    "train --config typo.yaml": "key 'latnets' is not a setting; did you mean latents?",
    "train --latnets 3": "--latnets is not a setting; did you mean --latents?",
    "train --inference lca": "inference engine 'lca' is unknown; .*expected one of",
    "train --inference amortized --steps 3": "--steps does not apply to inference amortized.*; leave it out",
    "train --beta 0 --run-dir o": "beta is 0.0; expected a positive number",
    "train --beta nan --run-dir o": "beta is nan; expected a positive number",
    "train --latents 0 --run-dir o": "latents is 0; expected a number ≥ 1",
    "train --start-log-rate nan --run-dir o": "--start-log-rate is nan; expected a log-rate",
    "train --updates 0 --run-dir o": "updates is 0; expected a positive number",
    "train --data array --run-dir o": "needs --data-path, but none is given; name",
    "train --data array --data-path none.npy --run-dir o": "none.npy .*; (give|expected|name)",
    "train --data array --data-path folder --run-dir o": "folder holds no shards; give a file, or files of one of .npy",
    "train --data array --data-path none-*.npy --run-dir o": r"none-\*.npy holds no shards; give a file",
    "train --run-dir file": "--run-dir file is a file; name a folder|file",
    # ~ is the home folder, and brackets are no markup
    "gap ~/nowhere": "there is no checkpoint at HOME/nowhere.*; expected",
    "gap ~/nowhere.npz": "there is no dictionary file at HOME/nowhere.npz; expected",
    "gap run --engines ~/nowhere.pt": "there is no checkpoint at HOME/nowhere.pt; expected",
    "gap nowhere --json ~/folder": "--json is HOME/folder, a folder; expected",
    "gap ~no-such-user/nowhere.npz": "no dictionary file at ~no-such-user/nowhere.npz; expected",
    "gap 'runs [beta2]'": r"no checkpoint at runs \[beta2\]/.*; expected",
    "gap 'a[/b].npz'": r"no dictionary file at a\[/b\].npz; expected",
}
REMEDIES = (
    r"expected|use |name |leave |save |train |write|give |remove |export |reshape |that fit|did you mean |make |say |"
    "choose "
)


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line(the, line, capsys, monkeypatch):
    if ".h5" in line:
        pytest.importorskip("h5py")
    monkeypatch.chdir(the)
    monkeypatch.setenv("HOME", str(the))
    words = {"LONG": ["gap", "a" * 300], "DATA": ["--data", "array", "--data-path", "x.npy"], "NAME": ["n" * 250]}
    words["TABLE"] = words["DATA"][:-1]
    words["COUNTS"] = [*words["TABLE"], "counts.npy", "--likelihood", "poisson"]
    args = [part for token in shlex.split(line) for part in words.get(token, [token])]
    with pytest.raises(SystemExit) as stopped:
        cli.main(args)
    error = capsys.readouterr().err
    assert stopped.value.code == 2, error
    assert error.startswith("itervae: "), error
    assert error.count("\n") == 1, error
    expected = BAD[line].replace("HOME", re.escape(str(the)))
    expected = re.sub(r"\?(?=$|\|)", r"\\?", expected)
    assert re.search(expected, error), error
    assert re.search(REMEDIES, error), error
    assert not list(Path().glob("o.*")), "nothing was written"


def test_settings_in_a_message_are_options_on_the_command_line():
    said = "`val_share=2.0` is no share, `whiten=False` nor `shape=4 4`; give `data_path`"
    assert as_options(said) == "--val-share 2.0 is no share, --no-whiten nor --shape 4 4; give --data-path"
    assert as_options("a `Module` stays, and so does x`y") == "a `Module` stays, and so does x`y"
