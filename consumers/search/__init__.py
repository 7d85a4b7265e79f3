"""The search satellite: a full-text index that follows the source."""
