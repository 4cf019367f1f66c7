"""Default requirements of numina, by instrument profile and mode: the file ``configs.yaml``.

numina demands both names: it looks for defaults in ``configs.yaml`` in the folder ``recipes`` of a
package. There are no recipes in this folder; they are in `crdetect.recipe`.
"""
