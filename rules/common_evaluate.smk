# Helpers of the evaluation rules.


def tokens_info(wildcards):
    """Of the tokens that a method's models were trained on; none for the start model."""
    if wildcards.method == "sft":
        return []
    return f"results/data/{wildcards.setting}/tokens.json"


def trained_on_flag(wildcards, input):
    """`--tokens-info FILE`, where the method was trained here."""
    return f"--tokens-info {input.trained_on}" if input.trained_on else ""


def engine_flag(wildcards):
    """`--vllm-python INTERPRETER`, where the setting's answers are vLLM's."""
    vllm = setting_of(wildcards)["generation"]["backend"] == "vllm"
    return f"--vllm-python {CONFIG['vllm_python']}" if vllm else ""
