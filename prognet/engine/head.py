"""An output layer of several layers."""

from torch import nn


class OutputHead(nn.Module):
    """Several layers that count as one output layer, as the pooling before a classifier, or a detection head.

    It is what tasks with a shared trunk have of their own. Unlike a plain output layer it is no site, and no site lies
    inside it: in a progressive network laterals reach as far as the trunk does.
    """
