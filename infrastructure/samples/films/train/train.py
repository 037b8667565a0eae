"""Learn theta, the items' features, from MovieTweetings; users' weights are left to be learnt online.

Rating r = mu + w_u . f(item), f = [1, item bias, D item factors]. Theta (biases and factors) comes from `train` users
alone, constants are chosen on `tune` users, `stream` users are for predict-then-update. Users with at least 20 ratings
are split 50/20/30; those with fewer all train.

Source: MovieTweetings (Simon Dooms, MIT), ratings.dat: `user::imdb_id::rating::timestamp`, ratings 1-10.

    python3 train.py --raw FOLDER_WITH_RATINGS_DAT --out WORK

Writes
    mt_item_features.onnx  `item` int64 [N] to `features` float32 [N, 34]; the last index is the unknown item
    mt_priors.json         mu, w0 [34] (the mean user) and lambda_diag [34] (diagonal prior precision), and RMSE
    ratings.csv.gz         user,item,imdb_id,rating,timestamp,group: by user, and each user's in true time order
"""
import argparse
import gzip
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is loaded

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

USER, ITEM, RATING, TIME = range(4)  # columns of a ratings array, int64 [n, 4]
TRAIN, TUNE, STREAM = range(3)
GROUPS = ["train", "tune", "stream"]
ACTIVE = 20          # ratings that a user needs in order to tune or stream
KEPT = 5             # `train` ratings that an item needs in order to have its own features
EXPORTED_FACTORS = 32
ITEM_BIAS_RIDGE = 8.0
USER_BIAS_RIDGE = 5.0
PRIOR_ON_ONE = 3.0   # prior precision of the weight on the constant 1, a user's own bias,
PRIOR_ON_BIAS = 16.0  # and of the weight on the item's bias
UNLIMITED = 10 ** 9
FIXED = 1e9          # a precision that keeps a weight where it is


class Dataset:
    """The ratings, who is in which group, and which row of theta each item has."""

    def __init__(self, path):
        with open(path) as file:
            lines = [line.strip().split("::") for line in file]
        ratings = np.array([[int(field) for field in line] for line in lines], dtype=np.int64)
        ratings = ratings[(ratings[:, RATING] >= 1) & (ratings[:, RATING] <= 10)]
        self.ratings = ratings
        self.count = np.bincount(ratings[:, USER])  # ratings of each user

        rng = np.random.RandomState(0)
        active = rng.permutation(np.where(self.count >= ACTIVE)[0])
        n = len(active)
        self.tune_users = active[n // 2:int(n * 0.7)]
        self.stream_users = active[int(n * 0.7):]
        self.group = np.zeros(self.count.size, int)
        self.group[self.tune_users] = TUNE
        self.group[self.stream_users] = STREAM

        self.train = ratings[self.group[ratings[:, USER]] == TRAIN]
        seen = {}
        for item in self.train[:, ITEM]:
            seen[item] = seen.get(item, 0) + 1
        kept = sorted(item for item in seen if seen[item] >= KEPT)
        self.row = {item: k for k, item in enumerate(kept)}
        self.unknown = len(kept)  # the last row stands for every other item
        self.mu = self.train[:, RATING].mean()
        print(f"ratings {len(ratings)} train {len(self.train)} items kept {self.unknown}",
              f"tune users {len(self.tune_users)} stream users {len(self.stream_users)}", flush=True)

    def rows(self, ratings):
        """Rows of theta [n] for the items of ratings [n, 4]."""
        return np.array([self.row.get(item, self.unknown) for item in ratings[:, ITEM]])

    def sequences(self, users):
        """For each user (user, rows of theta [n], ratings - mu [n]) in time order."""
        result = []
        for user in users:
            own = self.ratings[self.ratings[:, USER] == user]
            own = own[np.argsort(own[:, TIME], kind="stable")]
            result.append((user, self.rows(own), own[:, RATING] - self.mu))
        return result


def fit(data, factors, ridge, iterations, seed=1):
    """Biases by eight alternating sweeps, then factors by alternating least squares, on `train` ratings.

    Returns item biases [I + 1], item factors [I + 1, factors], user biases [U] and the users' ids [U]. Factors are
    turned and scaled so that users' factors have unit covariance: one prior precision then suits every coordinate.
    """
    rng = np.random.RandomState(seed)
    unknown = data.unknown
    item = data.rows(data.train)
    users, user = np.unique(data.train[:, USER], return_inverse=True)
    residual = data.train[:, RATING] - data.mu

    item_bias, user_bias = np.zeros(unknown + 1), np.zeros(len(users))
    for _ in range(8):
        total = np.bincount(item, residual - user_bias[user], unknown + 1)
        item_bias = total / (np.bincount(item, minlength=unknown + 1) + ITEM_BIAS_RIDGE)
        total = np.bincount(user, residual - item_bias[item], len(users))
        user_bias = total / (np.bincount(user, minlength=len(users)) + USER_BIAS_RIDGE)
    rare = item == unknown
    item_bias[unknown] = np.mean(residual[rare] - user_bias[user[rare]]) if rare.any() else 0

    q = rng.randn(unknown + 1, factors) * 0.1  # items
    q[unknown] = 0
    p = np.zeros((len(users), factors))        # users
    error = residual - item_bias[item] - user_bias[user]
    by_user, by_item = np.argsort(user, kind="stable"), np.argsort(item, kind="stable")
    user_starts = np.searchsorted(user[by_user], np.arange(len(users) + 1))
    item_starts = np.searchsorted(item[by_item], np.arange(unknown + 2))
    penalty = ridge * np.eye(factors)
    for _ in range(iterations):
        for u in range(len(users)):
            own = by_user[user_starts[u]:user_starts[u + 1]]
            if len(own) < 3:
                continue
            x = q[item[own]]
            p[u] = np.linalg.solve(x.T @ x + penalty, x.T @ error[own])
        for i in range(unknown):
            own = by_item[item_starts[i]:item_starts[i + 1]]
            x = p[user[own]]
            q[i] = np.linalg.solve(x.T @ x + penalty, x.T @ error[own])

    with_factors = max(1, (np.abs(p).sum(1) > 0).sum())
    covariance = p.T @ p / with_factors + 1e-8 * np.eye(factors)
    return item_bias, q @ np.linalg.cholesky(covariance), user_bias, users


def learn_theta(data, factors, ridge, iterations):
    """Item features [I + 1, factors + 2] and w0 [factors + 2], the weights of the mean user with ACTIVE ratings."""
    item_bias, q, user_bias, users = fit(data, factors, ridge, iterations)
    features = np.hstack([np.ones((data.unknown + 1, 1)), item_bias[:, None], q])
    w0 = np.zeros(factors + 2)
    w0[0] = np.mean([bias for bias, user in zip(user_bias, users) if data.count[user] >= ACTIVE])
    w0[1] = 1
    return features, w0


def precision(factors, on_factors, on_bias=PRIOR_ON_BIAS):
    """Diagonal prior precision [factors + 2]."""
    return np.r_[PRIOR_ON_ONE, on_bias, np.full(factors, on_factors)]


def stream(features, w0, prior_precision, sequences, most):
    """Predict then update by Sherman-Morrison, from the prior anew for each user, `most` ratings each at most.

    Returns [n, 2]: the errors of w0 and of the user's own weights.
    """
    errors = []
    for _, rows, ratings in sequences:
        covariance, w = np.diag(1 / prior_precision), w0.copy()
        for t in range(min(len(rows), most)):
            f = features[rows[t]]
            errors.append((ratings[t] - w0 @ f, ratings[t] - w @ f))
            v = covariance @ f
            gain = v / (1 + f @ v)
            w = w + gain * (ratings[t] - w @ f)
            covariance -= np.outer(gain, v)
    return np.array(errors)


def rmse(errors):
    return float(np.sqrt(np.mean(np.square(errors))))


def tune(data):
    """The ridge of the factorisation and the prior precision of factors, by RMSE on the `tune` users."""
    sequences, started, best = data.sequences(data.tune_users), time.time(), None
    for factors in (8, 16, 32):
        for ridge in (5, 10, 20):
            features, w0 = learn_theta(data, factors, ridge, iterations=10)
            for on_factors in (2.0, 4.0, 8.0):
                errors = stream(features, w0, precision(factors, on_factors), sequences, most=100)
                score = rmse(errors[:, 1])
                if best is None or score < best[0]:
                    best = (score, factors, ridge, on_factors)
                    print("tune", best, f"{time.time() - started:.0f}s", flush=True)
    _, factors, ridge, on_factors = best
    if factors == EXPORTED_FACTORS:
        return ridge, on_factors
    print(f"best number of factors {factors}; exporting {EXPORTED_FACTORS}")
    return 5, 2.0


def write_features(path, features):
    """A Gather over the features as an initializer; opset 13, IR 7."""
    width = features.shape[1]
    graph = helper.make_graph(
        [helper.make_node("Gather", ["item_features", "item"], ["features"], axis=0)],
        "mt_items",
        [helper.make_tensor_value_info("item", TensorProto.INT64, ["N"])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", width])],
        [numpy_helper.from_array(features.astype(np.float32), "item_features")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 7
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def write_ratings(path, data):
    """All ratings by user, then time; ties stay in the source's order. No time in the gzip header."""
    ordered = data.ratings[np.lexsort((data.ratings[:, TIME], data.ratings[:, USER]))]
    lines = ["user,item,imdb_id,rating,timestamp,group"]
    for (user, imdb_id, rating, timestamp), row in zip(ordered, data.rows(ordered)):
        lines.append(f"{user},{row},{imdb_id},{rating},{timestamp},{GROUPS[data.group[user]]}")
    with gzip.GzipFile(str(path), "wb", 9, mtime=0) as packed:
        packed.write("\n".join(lines).encode() + b"\n")


def main():
    parser = argparse.ArgumentParser(description="item features and the mean user from MovieTweetings")
    parser.add_argument("--raw", type=Path, required=True, help="folder with ratings.dat")
    parser.add_argument("--out", type=Path, required=True, help="folder for features, prior and ratings")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    data = Dataset(args.raw / "ratings.dat")
    ridge, on_factors = tune(data)
    features, w0 = learn_theta(data, EXPORTED_FACTORS, ridge, iterations=12)
    prior_precision = precision(EXPORTED_FACTORS, on_factors)

    sequences = data.sequences(data.stream_users)
    errors = stream(features, w0, prior_precision, sequences, UNLIMITED)
    bias_only = stream(features, w0, precision(EXPORTED_FACTORS, FIXED, on_bias=FIXED), sequences, UNLIMITED)
    static, bias, online = rmse(errors[:, 0]), rmse(bias_only[:, 1]), rmse(errors[:, 1])
    print(f"stream n {len(errors)} static {static:.4f} bias {bias:.4f} online {online:.4f}", flush=True)

    write_features(args.out / "mt_item_features.onnx", features)
    write_ratings(args.out / "ratings.csv.gz", data)
    (args.out / "mt_priors.json").write_text(json.dumps(dict(
        mu=float(data.mu), D=EXPORTED_FACTORS, feature_dim=EXPORTED_FACTORS + 2, unknown_item_index=data.unknown,
        w0=[float(x) for x in w0], lambda_diag=[float(x) for x in prior_precision],
        stream_static_rmse=static, stream_online_rmse=online, stream_bias_only_rmse=bias,
        n_stream=len(errors)), indent=1))


if __name__ == "__main__":
    main()
