"""Exploring what lies between: maps between corners, with scores, contours and ways uphill."""
