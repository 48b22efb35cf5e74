"""What vLLM's entry point group vllm.general_plugins calls: the tier by its name, for the releases
that look up none by module_path."""


def register() -> None:
    try:
        from vllm.v1.kv_offload.tiering.factory import SecondaryTierFactory
    except ImportError:
        return  # A release without tiers.
    try:
        SecondaryTierFactory.register_tier("CairnTier", "cairn.hosts.vllm", "CairnTier")
    except ValueError:
        pass  # Registered already.
