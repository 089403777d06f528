"""Analyses of loss matrices: arrays and frames in, results out; no module here opens a store or loads a model."""

from trajstore.analysis.components.pca import PCA, PCAResult, pca
from trajstore.analysis.components.sparse_pca import SparseFit, SparsePCA, sparse_pca
from trajstore.analysis.trajectories import group_trajectory
from trajstore.lazy_imports import on_demand

__all__ = ["PCA", "PCAResult", "SparseFit", "SparsePCA", "group_trajectory", "pca", "sparse_pca"]

on_demand(__name__)
