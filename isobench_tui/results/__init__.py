"""WHAT CAME OUT: parse, judge and diagnose - pure functions, text in, facts out."""
