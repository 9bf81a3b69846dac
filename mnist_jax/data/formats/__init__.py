"""File formats of data sets: IDX, .npy and .npz."""
