"""tokenry"""
