"""The provider by which the tests make spans: `make test` runs those of the instrumentation and the exporter on both.

It is the default one, or with RETROSPAN_FAST_SPANS=0 the SDK's own.
"""

from retrospan_exporters.provider import provider_class

TracerProvider = provider_class()
