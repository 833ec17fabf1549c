"""Baselines: simple predictors that every model is shown next to.

past             what they share: split-conformal intervals, smoothed frequencies
last_value       the latest value seen
seasonal_median  the median of the same slot on earlier days
"""
