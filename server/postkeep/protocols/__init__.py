"""Bytes and commands: one package a protocol."""
