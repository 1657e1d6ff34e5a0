"""A small ExecuTorch program, as executorch 1.5.1 wrote it, for environments that do not have it.

    model = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 4)).eval()  # weights 0, 1/32, ..., 31/32; biases 0, 1, 2, 3
    captured = torch.export.export(model, (torch.zeros(1, 8),))
    to_edge_transform_and_lower(captured, partitioner=[XnnpackPartitioner()]).to_executorch().buffer

The linear layer is XNNPACK's, the norm is left to ExecuTorch's own kernel.
"""

import base64
import zlib

PROGRAM = zlib.decompress(
    base64.b64decode(
        "eNq1VkFrG0cUnpXl9Xa7hMVVElNMEcIUH0zQrlaWZNxElBR8Kj70YHCMJe2OkKi6Fso6dWgDOvQQSg/9AT2YnnrooYcWesyhhBx68A8IxdAeck"
        "xvoTTefjP7VjuW7dDidODbmZ2Z9817b97Mm3XG2AcfOS7vlctFtJtzTJYx1XY+qQtsEd8F1DazmIF2Hm3Rw9gT4BnQ0jLk8H9HzmLs4V9xPEPt"
        "JuD5Dd/rVqoer3lOtRJ0yo5bcRtBzfHr1VWX+26Fe42649Wdmtdxfa8R8Gq961UDr+YHHS70eQrOnMLZcTjnrlfhFV71Gn6du0GDt1ch53aDqu"
        "9x3/eCoNqpON1G0PX91VVe88tuUGu3XSfo1gXnykkcC74ZdrYUqRbjPeA29Yn/oziObaZMoPIM/WNqjxVSA16zMFF48ShH40wdtyWRQbZNF7hX"
        "7gZj19gyW4Iei8rO5NHL0As/AwPgEKhDaB1oAs+hy/psskdpOVS4hQlfQncLtSX3Pinf/B3HGk27gs9WGA7b/sfvAzwMMtkDzDNIVpi9tx+x66"
        "jbEQ/X1sJ21L/Hdwft+3y0G+6NPpFyif/MiQ0myR8QhK7LxL/0MuEX3cdxsmc5WkvI3X452Q/NoFg1SPYNmjun2GuQrBifpTmqr02qhdybQIDG"
        "EnCEziGwoiXx/4T8+IUS+3cQU+KMsNl57NF1aaklWfJsPvOttjDZU6b/DP2LypqMzlPq36WTif3mb0rMqjZsZHPyj+GjP3u/P/zpxR83W1n/3N"
        "vkO8GrKzbbtPcsp8s41clHMk4y+dl3Ke5V3SOMNy/QXeBYke+eI/8jxjdfIf99nPnzGrt6xp8L0/7UdRlP+gWchoSJPU9iJOUusLdkBBp0qOcp"
        "RlVdW/HF+yTkfo0zW3+Jk/tKDFuTeGe6NhWHhrRG0QWy9qnIyUtZ7V9yGcRl0J3VALadleJnpej+kJfWiuH+YLBSLPl7YcQPIqWj1x8EIx7u3h"
        "1yH93bOw92IHsyLV/q7PcHUT+8eyPaHw546RRXSZCVzmN7bfL/Rf8H5+od9P1oatntndJFFDvJ3dHdG33aHgXs8mV869X4/8vWRrn8jsxm3+Wy"
        "jJTlva0Py47INUUZSxbirUCxuShzzeeQqAMFiv886hd0F4k76SkwpP9vcQ7EnRdTSfPm63kXmNBLZM8kf6jrjJV1Lv9WMCf3gnk65cuzN5OdTz"
        "l2DHwFbKbvIeiT3lEMN8si06VfGXl2nphydLY1Jb+peWBMPKL9WLa1SS7Nke3qfINdQewa6V1+Zn2bXnTnrS+4Uj3yyv2i8hXIgtQa8WcrXIZi"
        "i6b8Z7l/TkqalNsLNNeavIcsyav6Q7TLlz8C78GbwCOA3UTUA02gBYyBr4FD4AfgEXAEHAPPAYYzagA2sAAUgWWgDNSBJrABbAJbQAvoAUPg4F"
        "Z2B4jQbDb/Adk2ob8="
    )
)
