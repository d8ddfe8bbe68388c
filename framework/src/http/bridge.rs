//! Between hyper and tide: the one place where a tide server answers hyper's requests.
